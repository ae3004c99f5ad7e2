"""The bench: asks each oracle that was named, and confirms before anything is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from pytest_ssot_isolation.engine.orders import orders
from pytest_ssot_isolation.engine.script import Pace, Script
from pytest_ssot_isolation.errors import SurfaceError
from pytest_ssot_isolation.model.history import History, Outcome
from pytest_ssot_isolation.model.program import Program, Result
from pytest_ssot_isolation.model.schedule import CLOCK, NATURAL, Schedule
from pytest_ssot_isolation.model.verdict import Finding, Judgement
from pytest_ssot_isolation.oracles import canary, in_common, residue
from pytest_ssot_isolation.oracles.noninterference import (
    Difference,
    View,
    compare,
    finding_of,
    is_contention,
)
from pytest_ssot_isolation.oracles.normal import Declarations, Place, is_id_like, is_moment

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.scan import Scanner


MORE_SOLOS = 3
"""Runs that must be alike before a difference is told: the toss of a coin comes the same twice."""

SLOW_WALKS = 3
"""Walks of each kind in which the application's own tasks are slow."""

SETTLED = 2.0**-16
"""Virtual seconds in which whatever waits for no time comes to its end."""

PACES: tuple[Pace, ...] = (
    Pace(),
    Pace(lag=SETTLED),
    Pace(alongside="step"),
    Pace(alongside="rest"),
    *(
        Pace(share=share, lag=lag, walk=f"pace {share} {lag}")
        for share in (1.0, 0.0, 0.5, 0.1, 0.02, 1.25)
        for lag in (0.0, SETTLED)
    ),
    *(
        Pace(share=share, walk=f"slow {share} {number}", is_slow=True)
        for number in range(SLOW_WALKS)
        for share in (1.0, 0.0)
    ),
)
"""Ways of the observer alone to take as much time as beside the others, or less where others were in the way."""

LIKELY_PACES = PACES[:4]
"""Those that each step of a reduction is tried against."""


class FurtherOracle(Protocol):
    """An oracle of another plugin: a pure function of one history."""

    def judge(self, history: History) -> Judgement:
        """Say what it shows."""
        ...


class Runs(Protocol):
    """Runs scripts from equal starts; None where the application refused an id."""

    async def again(self, script: Script, schedule: Schedule, *, strict: bool = False) -> View | None:
        """Run a script under a schedule that was written down."""
        ...

    async def without(self, script: Script, full: History, *, pace: Pace | None = None) -> View | None:
        """Run what is left of a script, in the order that it had beside the others."""
        ...


@dataclass(slots=True)
class Bench:
    """The oracles of one check, and what they learnt of its fields.

    Attributes:
        oracles: Names of those that judge.
        scanner: Recognises canaries.
        declared: What the surfaces' authors declared.
        noisy: Fields that differ between two runs that should be alike: times, random values.
        serial: Fields that hold serial ids: told once, then taken for names.
        further: Oracles of other plugins, by name.
        silent: Those of them that could say nothing so far, with the reason.
        explained: Calls and paths that were once seen the same without the others, at another pace.
    """

    oracles: frozenset[str]
    scanner: Scanner
    declared: Declarations
    noisy: set[Place] = field(default_factory=set)
    serial: set[Place] = field(default_factory=set)
    further: Mapping[str, FurtherOracle] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    explained: set[tuple[int, str]] = field(default_factory=set)
    _spoke: set[str] = field(default_factory=set)
    _scanned: dict[int, Sequence[canary.Sighting]] = field(default_factory=dict)

    def judge(self, history: History) -> Judgement:
        """Ask the oracles that need one history only."""
        for planted in history.planted.values():
            self.scanner.learn(planted.canary)
        findings: list[Finding] = []
        controls: frozenset[int] = frozenset()
        reason = ""
        said = canary.judge(history, self.scanner.scan)
        controls, reason = said.controls, said.reason
        if "canary" in self.oracles:
            findings += said.findings
        if "residue" in self.oracles:
            findings += residue.judge(history, self.scanner.scan).findings
        if "aliasing" in self.oracles:
            findings += in_common.judge(history).findings
        for name, oracle in self.further.items():
            if name in self.oracles:
                findings += self._ask_further(name, oracle, history)
        return Judgement(findings=tuple(findings), reason=reason, controls=controls)

    def _ask_further(self, name: str, oracle: FurtherOracle, history: History) -> Sequence[Finding]:
        try:
            said = oracle.judge(history)
            found = [replace(finding, oracle=name) for finding in said.findings]
        except Exception as error:
            raise SurfaceError(
                f"The oracle {name!r} of another plugin could not judge a history: {type(error).__name__}: {error}\n"
                f"To fix this, mend {type(oracle).__qualname__}.judge, or leave it out of oracles=."
            ) from error
        if said.reason and not found and name not in self._spoke:
            self.silent[name] = said.reason
        else:
            self._spoke.add(name)
            self.silent.pop(name, None)
        return found

    def redact(self, text: str, names: Callable[[int, int], str]) -> str:
        """A text with canaries by name."""
        return self.scanner.redact(text, names)

    # -- runs compared -------------------------------------------------------------------------------

    async def compare(
        self,
        full: View,
        script: Script,
        runs: Runs,
        observer: int,
        *,
        confirm: bool = True,
        forget: Place | None = None,
    ) -> list[Finding]:
        """Run one observer alone, and report what that user saw differently beside the others.

        Args:
            full: The run beside the others.
            script: Its script.
            runs: Runs a script again.
            observer: Index of the observer.
            confirm: Whether a difference is confirmed; in a reduction it was confirmed before.
            forget: A field that is known to hold serial ids, and is looked at again all the same.
        """
        history = full.history
        if history.trouble is not None or observer not in self.observers(full, script):
            return []
        alone = _alone(script, history, observer)
        if len(alone.program.calls) == len(script.program.calls):
            return []
        first = await self._solo(alone, history, runs)
        if first is None:
            return []
        if forget is not None:
            self.serial.discard(forget)
        found = self._shed_moments(self._compare(full, first, observer)[0])
        if not found:
            return []
        if forget is not None:
            return self._serial_ids(full, first, observer, found, forget)[0]
        if not confirm:
            found = await self._not_of_those_left(found, full, alone, runs, observer)
            found = await self._not_its_own_pace(found, full, alone, runs, observer, LIKELY_PACES)
            return _sharpest(self._findings(found, full, first, observer))
        return await self._confirm(full, script, alone, runs, first, observer)

    def observers(self, full: View, script: Script) -> list[int]:
        """Users who act, from whose sight something is kept, and whose own calls all came to their end."""
        history = full.history
        if len(script.program.users) < 2:
            return []
        # Whether a call that was cut off took effect is chance, alone as well as beside the others.
        cut = {
            history.bound[fault.call].user for fault in history.schedule.faults if fault.call in history.bound
        }
        return [user for user in script.program.users if user not in cut and not history.sees_all(user)]

    async def recheck(
        self, finding: Finding, full: View, script: Script, runs: Runs, observer: int, *, confirm: bool
    ) -> Sequence[Finding]:
        """Look for a finding of a comparison again, in another run.

        Args:
            finding: What was found.
            full: The other run.
            script: Its script.
            runs: Runs a script again.
            observer: The victim's index in it.
            confirm: See ``compare``.
        """
        if full.history.trouble is not None:
            return await self.trouble(full, script, runs)
        is_serial = finding.severity == "low" and finding.operation is not None
        forget = (finding.operation or "", finding.path) if is_serial else None
        return await self.compare(full, script, runs, observer, confirm=confirm, forget=forget)

    async def _solo(
        self,
        alone: Script,
        full: History,
        runs: Runs,
        *,
        pace: Pace | None = None,
    ) -> View | None:
        made = await runs.without(alone, full, pace=pace)
        return made if made is not None and made.history.trouble is None else None

    def _findings(self, found: list[Difference], full: View, solo: View, who: int) -> list[Finding]:
        findings = [
            finding_of(difference, full.history, solo.history, who, self.scanner.scan) for difference in found
        ]
        return [finding for finding in findings if finding.oracle in self.oracles]

    def _compare(self, full: View, solo: View, who: int) -> tuple[list[Difference], set[Place]]:
        return compare(
            full, solo, who, self.declared, opaque=frozenset(self.serial), masked=frozenset(self.noisy)
        )

    def _shed_moments(self, found: list[Difference]) -> list[Difference]:
        """Times differ between any two runs: such fields are noise from the first sight on."""
        for difference in found:
            if is_moment(difference.full) and is_moment(difference.solo):
                self.noisy.add(difference.place)
        return [difference for difference in found if difference.place not in self.noisy]

    async def _confirm(
        self, full: View, script: Script, alone: Script, runs: Runs, first: View, who: int
    ) -> list[Finding]:
        """Two solos alike, the full run repeated, and the same call and field differing again."""
        second = await self._solo(alone, full.history, runs)
        if second is None:
            return []
        noise, _ = compare(first, second, who, self.declared, opaque=frozenset(self.serial))
        self.noisy.update(difference.place for difference in noise)
        found = self._shed_moments(self._compare(full, first, who)[0])
        if not found:
            return []
        low, found = self._serial_ids(full, first, who, found)
        if not found:
            return low
        again = await runs.again(script, full.history.schedule, strict=True)
        if again is None or again.history.trouble is not None:
            return low
        same = {(d.call, d.path) for d in self._compare(again, second, who)[0]}
        found = [d for d in found if (d.call, d.path) in same]
        found = await self._not_of_those_left(found, full, alone, runs, who)
        found = await self._not_by_chance(found, full, first, alone, runs, who)
        found = await self._not_its_own_pace(found, full, alone, runs, who, PACES)
        found = await self._not_the_clock(found, full, first, script, runs, who)
        found = await self._not_contention(found, full, first, script, runs, who)
        return low + _sharpest(self._findings(found, full, first, who))

    async def _not_of_those_left(
        self, found: list[Difference], full: View, alone: Script, runs: Runs, who: int
    ) -> list[Difference]:
        """What also comes without the others, when those who are left act in another order, is not the others' doing.

        Steps cannot be matched one to one: who waited for a place in a pool before does not wait now. So where
        the observer is not quite alone, each call of those who are left may have come before or after those
        that it overlapped.
        """
        if len(alone.program.users) < 2:
            return found
        while found:
            looked_at = found[0].call
            for calls in orders(alone.program, full.history, looked_at):
                serially = alone.doing(Program(calls=calls, sequential=True))
                made = await self._solo(serially, full.history, runs)
                if made is not None:
                    differing = {(d.call, d.path) for d in self._compare(full, made, who)[0]}
                    found = [d for d in found if (d.call, d.path) in differing]
                if all(d.call != looked_at for d in found):
                    break
            else:
                return found  # In no order of theirs: it is the others' doing.
        return found

    async def _not_by_chance(
        self, found: list[Difference], full: View, first: View, alone: Script, runs: Runs, who: int
    ) -> list[Difference]:
        """What differs among runs of the observer alone is noise, however seldom."""
        for _ in range(MORE_SOLOS if found else 0):
            made = await self._solo(alone, full.history, runs)
            if made is None:
                continue
            noise, _ = compare(first, made, who, self.declared, opaque=frozenset(self.serial))
            self.noisy.update(difference.place for difference in noise)
        return [difference for difference in found if difference.place not in self.noisy]

    async def _not_its_own_pace(
        self,
        found: list[Difference],
        full: View,
        alone: Script,
        runs: Runs,
        who: int,
        paces: Sequence[Pace],
    ) -> list[Difference]:
        """What the observer may see alone as well, by asking a little later, was not told by the others.

        Beside others a call comes later than alone: a job in the background has come further by then, and a
        limit on calls in a minute has let go.
        """
        for pace in paces:
            if not found:
                break
            if pace.alongside and not full.history.has_workers:
                continue  # the application's own tasks, of which there are none
            # Other walks in each run: what one alone shows once, it may show.
            walk = pace.walk and f"{pace.walk} {full.nonce}"
            made = await self._solo(alone, full.history, runs, pace=replace(pace, walk=walk))
            if made is None:
                continue
            answered = {-1, *(o.call for o in made.history.observations if o.channel == "result")}
            differing = {(d.call, d.path) for d in self._compare(full, made, who)[0]}
            same = [d for d in found if (d.call, d.path) not in differing and d.call in answered]
            self.explained.update((d.call, d.path) for d in same)
            found = [d for d in found if d not in same]
        return found

    async def _not_the_clock(
        self, found: list[Difference], full: View, solo: View, script: Script, runs: Runs, who: int
    ) -> list[Difference]:
        """What differs only where time was let pass by choice was cut off by a time-out, not told by others."""
        made = full.history.schedule
        quick = replace(made, anchors=tuple(a for a in made.anchors if a.to != CLOCK))
        if not found or quick == made:
            return found
        again = await runs.again(script, quick)
        if again is None or again.history.trouble is not None:
            return []
        same = {(d.call, d.path) for d in self._compare(again, solo, who)[0]}
        return [d for d in found if (d.call, d.path) in same]

    def _serial_ids(
        self, full: View, solo: View, who: int, found: list[Difference], again: Place | None = None
    ) -> tuple[list[Finding], list[Difference]]:
        """Tell fields that differ only as serial ids do, named like ids and alike up to renaming, from the rest."""
        places = {
            d.place
            for d in found
            if is_id_like(d.place) and isinstance(d.full, int | str) and isinstance(d.solo, int | str)
        }
        if not places:
            return [], found
        left, _ = compare(
            full,
            solo,
            who,
            self.declared,
            opaque=frozenset(self.serial | places),
            masked=frozenset(self.noisy),
        )
        gone = {d.place for d in found} - {d.place for d in left}
        fields = sorted(place for place in places if place in gone)
        if not fields:
            return [], found
        told = again if again in fields else None if self.serial or again else fields[0]
        self.serial.update(fields)
        if told is None or "noninterference" not in self.oracles:
            return [], left
        difference = next(d for d in found if d.place == told)
        return [self._low(told, difference, full, who)], left

    def _low(self, place: Place, difference: Difference, full: View, who: int) -> Finding:
        operation, path = place
        return Finding(
            oracle="noninterference",
            severity="low",
            operation=operation,
            path=path,
            victim=full.history.principals[who].name,
            victim_index=who,
            index=difference.call,
            explanation=(
                f"{operation} answers with a serial number at {path or 'the top'}: it tells how many "
                f'others there are. Declare it (opaque = ("{operation}:{path or "*"}",)) '
                "or fix it (random ids)"
            ),
        )

    async def _not_contention(
        self, found: list[Difference], full: View, solo: View, script: Script, runs: Runs, who: int
    ) -> list[Difference]:
        """A failure that does not come when the same calls run one after another is no leak.

        Nor is what follows from it, such as a note that is not there because it could not be written.
        """
        history = full.history
        # All of them, found again or not: what follows from a failure may come from another one each time.
        failing = [d for d in self._compare(full, solo, who)[0] if d.ended and _failed(history, d)]
        if not failing or not found:
            return found
        order = {o.call: o.began for o in history.observations if o.channel == "result"}
        calls = tuple(sorted(script.program.calls, key=lambda call: order.get(call.id, 1 << 30)))
        serially = script.doing(Program(calls=calls, sequential=True))
        faults = history.schedule.faults
        made = await runs.again(serially, replace(NATURAL, faults=faults))
        if made is None:
            return [d for d in found if d not in failing]
        gone = {
            d.call for d in failing if _comes_to_pass(made.history, d) or (not faults and is_contention(d))
        }
        if not gone:
            return found
        same = {(d.call, d.path) for d in self._compare(made, solo, who)[0]}
        return [d for d in found if d.call not in gone and (d.call, d.path) in same]

    async def trouble(self, full: View, script: Script, runs: Runs) -> list[Finding]:
        """Report a run that could not end, where each of those users alone comes to an end."""
        trouble = full.history.trouble
        if trouble is None or "availability" not in self.oracles or trouble.kind not in ("deadlock", "stuck"):
            return []
        if len(trouble.users) < 2 and len(script.program.users) < 2:
            return []
        again = await runs.again(script, full.history.schedule, strict=True)
        if again is None or again.history.trouble is None or again.history.trouble.kind != trouble.kind:
            return []
        for user in trouble.users:
            alone = await runs.again(_alone(script, full.history, user), NATURAL)
            if alone is None or alone.history.trouble is not None:
                return []
        victim = trouble.users[0]
        other = next((u for u in trouble.users if u != victim), None)
        names = [p.name for p in full.history.principals]
        return [
            Finding(
                oracle="availability",
                victim=names[victim],
                victim_index=victim,
                offender=names[other] if other is not None else None,
                offender_index=other,
                operation=None,
                channel="result",
                path=trouble.kind,
                explanation=f"calls of several users wait for each other for ever ({trouble.kind}); alone each "
                f"of them ends. {trouble.text}",
            )
        ]


def _comes_to_pass(history: History, difference: Difference) -> bool:
    """Whether a call that failed beside the others did not fail in this run."""
    answer = history.of_call(difference.call)
    return answer is None or answer.outcome is Outcome.OK


def _failed(history: History, difference: Difference) -> bool:
    answer = history.of_call(difference.call)
    return answer is not None and answer.outcome is Outcome.FAILED


def _sharpest(findings: Sequence[Finding]) -> list[Finding]:
    """Each operation once; what was lost says more than that something differs."""
    rank = {"integrity": 0, "availability": 1, "noninterference": 2}
    best: dict[tuple[object, ...], Finding] = {}
    for finding in sorted(findings, key=lambda f: rank.get(f.oracle, 9)):
        best.setdefault((finding.operation, finding.channel), finding)
    told = sorted(best.values(), key=lambda f: rank.get(f.oracle, 9))
    if told and told[0].oracle == "integrity":
        return [f for f in told if f.oracle == "integrity"]
    return told


def _alone(script: Script, history: History, observer: int) -> Script:
    """The script without the calls of those whom the observer may not see.

    What is addressed to the observer, or published, stays, with all that it refers to.
    """
    seen = {u for u in script.program.users if history.may_see(observer, u)} | {
        u for u in script.program.users if (u, observer) in history.may_change
    }
    lawful = {
        planted.call for planted in history.planted.values() if planted.public or observer in planted.readers
    }
    by_id = {call.id: call for call in script.program.calls}
    kept = {call.id for call in script.program.calls if call.user in seen or call.id in lawful}
    waiting = list(kept)
    while waiting:
        call = by_id[waiting.pop()]
        for _, form in call.arguments:
            if isinstance(form, Result) and form.call in by_id and form.call not in kept:
                owner = by_id[form.call].user
                if owner in seen or call.user not in seen:
                    kept.add(form.call)
                    waiting.append(form.call)
    calls = tuple(call for call in script.program.calls if call.id in kept)
    return script.doing(replace(script.program, calls=calls))
