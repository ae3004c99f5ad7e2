"""The hunt: a sweep of look-alike ids, then many fat programs, until the budget ends."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.engine.ask import Ask, Budget
from pytest_ssot_isolation.engine.choosers import RandomWalk, Recorded
from pytest_ssot_isolation.engine.faults import DRAWN, Faults
from pytest_ssot_isolation.engine.judge import Bench
from pytest_ssot_isolation.engine.record import Recording
from pytest_ssot_isolation.engine.reduce import Example, Reducer
from pytest_ssot_isolation.engine.run import Run, Terms
from pytest_ssot_isolation.engine.script import Nonces, Script
from pytest_ssot_isolation.engine.session import Expectation
from pytest_ssot_isolation.engine.tell import tell
from pytest_ssot_isolation.errors import Refused, ReplayMismatch
from pytest_ssot_isolation.generation import programs
from pytest_ssot_isolation.generation.casts import KEYS, SWEEP_KEYS, CastPlan
from pytest_ssot_isolation.generation.values import BATCH, POOL, draw_ids, draw_pools, drawn_arguments
from pytest_ssot_isolation.model.history import History, Outcome
from pytest_ssot_isolation.model.arguments import Keys
from pytest_ssot_isolation.model.schedule import Fault, Schedule
from pytest_ssot_isolation.model.verdict import Finding
from pytest_ssot_isolation.oracles.noninterference import View

if TYPE_CHECKING:
    from pytest_ssot_isolation.engine.lanes import Chooser
    from pytest_ssot_isolation.engine.start import Starts
    from pytest_ssot_isolation.generation.values import Pools
    from pytest_ssot_isolation.surfaces.base import Surface

REPLAYS = 5
SWEEP_SIZES = (80, 60, 40, 24, 12)
SWEEP_SHARE = 0.4
MOST_REFUSALS = 20
MOST_FINDINGS = 12
FAULTY_SHARE = 0.6


@dataclass(slots=True)
class Tally:
    """What was counted over all examples of a check."""

    examples: int = 0
    calls: int = 0
    succeeded: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_error: dict[tuple[str, str], str] = field(default_factory=dict)
    controls: set[int] = field(default_factory=set)
    cut_short: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    refused: dict[str, None] = field(default_factory=dict)
    refusals: int = 0
    notes: dict[str, None] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    def take(self, history: History) -> None:
        """Count one example."""
        self.examples += 1
        self.calls += len(history.bound)
        for observation in history.observations:
            if observation.channel != "result" or observation.call < 0:
                continue
            name = (history.principals[observation.user].surface, observation.operation)
            if observation.outcome is Outcome.OK:
                self.succeeded[name] += 1
            elif name not in self.first_error:
                self.first_error[name] = _first_line(observation.seen)
        for call, steps in history.resumptions.items():
            if call in history.bound:
                operation = history.bound[call].operation
                self.steps[operation] = max(self.steps.get(operation, 1), steps)
        if history.trouble is not None:
            self.cut_short += 1
            self.troubles[history.trouble.text] += 1
        self.notes.update(dict.fromkeys(history.notes))


def _first_line(seen: object) -> str:
    if isinstance(seen, Mapping) and isinstance(seen.get("error"), Mapping):
        error = seen["error"]
        return f"{error.get('type')}: {str(error.get('text')).splitlines()[:1] or ['']}"[:200]
    if isinstance(seen, Mapping) and "status" in seen:
        return f"HTTP {seen['status']} {str(seen.get('body'))}"[:200]
    return repr(seen)[:200]


class Hunt:
    """Runs the examples of one check, and makes what it finds small.

    Args:
        ask: What was asked for.
        terms: What holds for every run.
        starts: Gives each run the same start.
        bench: The oracles.
        keep: Takes recordings that should be run first next time.
        known: Recordings of earlier checks, run first.
        progress: Told after each example: examples so far, findings so far.
    """

    def __init__(
        self,
        ask: Ask,
        terms: Terms,
        starts: Starts,
        bench: Bench,
        *,
        keep: Callable[[Recording], str] = Recording.to_text,
        known: Iterable[Recording] = (),
        progress: Callable[[int, int], None] = lambda examples, findings: None,
    ) -> None:
        self.ask = ask
        self.terms = terms
        self.starts = starts
        self.bench = bench
        self.tally = Tally()
        self.findings: list[Finding] = []
        self._keep = keep
        self._known = tuple(known)
        self._progress = progress
        self._nonces = Nonces(ask.seed)
        self._random = random.Random(f"hunt {ask.seed}")
        self._serial = 1
        self._told: set[tuple[object, ...]] = set()
        self._strangers: list[tuple[Example, Finding, History]] = []
        self.budget = Budget(ask)

    async def run(self) -> None:
        """Hunt until the budget ends."""
        try:
            await self._hunt()
        finally:
            await self.starts.end()

    async def replay(self, recording: Recording) -> None:
        """Run one recorded example, as strictly as it was recorded.

        Raises:
            ReplayMismatch: The steps ran otherwise.
        """
        example = recording.example
        try:
            seen = await self._perform(
                example.script, Recorded(example.schedule, strict=True), example.schedule.faults
            )
        except Expectation as unmet:
            await self._expectation(example, unmet)
            return
        finally:
            await self.starts.end()
        if seen is None:
            raise ReplayMismatch(
                "The application refused an id of the recorded example at sign-in.\n"
                "To fix this, undo the change that refuses it, or delete the recorded example."
            )
        history = seen.history
        self.tally.take(history)
        if recording.trace and history.trace != recording.trace:
            raise ReplayMismatch.at_step(recording.trace, history.trace)
        judged = self.bench.judge(history)
        findings = list(judged.findings)
        if not findings and self.ask.compares and self.starts.are_equal:
            for observer in example.script.program.users:
                findings += await self.bench.compare(
                    seen, example.script, self._rerun, self._random, observer
                )
        for finding in findings:
            await self._report(example, finding, history, reduce=False)

    async def _hunt(self) -> None:
        for recording in self._known:
            await self._judge(recording.example, recorded=True)
            if self._is_over():
                return
        seconds = await self._warm_up()
        await self._sweep(seconds)
        for script in self._scripts():
            if self._is_over() or not self.budget.allows(self.tally.examples):
                break
            await self._judge(Example(script, Schedule()))
        if not self.findings:
            for example, finding, history in self._strangers[:1]:
                await self._report(example, finding, history, reduce=False)

    def _is_over(self) -> bool:
        if self.findings and self.ask.stop_at_first:
            return True
        return len(self.findings) >= MOST_FINDINGS

    # -- examples ------------------------------------------------------------------------------------

    async def _warm_up(self) -> float:
        """Run one example that is thrown away, and say what a call costs, in seconds.

        The first run differs from all others: drivers look types up, statements are prepared, modules
        are imported.
        """
        script = self._script(self._random.getrandbits(32), most_calls=min(8, self.ask.calls))
        began = time.perf_counter()
        seen = await self._perform(script, Recorded(Schedule()), ())
        calls = len(seen.history.bound) if seen is not None else 1
        return (time.perf_counter() - began) / max(1, calls)

    async def _sweep(self, seconds: float) -> None:
        """Run look-alike users one after another: ids need no schedule."""
        kind = self.ask.ids if isinstance(self.ask.ids, str) else "given"
        surfaces = self.ask.dealt(max(SWEEP_SIZES))
        operations = self.ask.of_users(surfaces)
        each = sum(len(ops) for ops in operations) / len(operations)
        share = SWEEP_SHARE * min(self.budget.left, 60.0)
        size = next((n for n in SWEEP_SIZES if n * each * seconds <= share), SWEEP_SIZES[-1])
        if kind == "given":
            size = max(2, min(self.ask.users, size))
        elif kind != "hostile":
            size = min(size, 24)
        for _ in range(MOST_REFUSALS + 2):
            plan = self._plan(size, is_sweep=True)
            surfaces = self.ask.dealt(size)
            families = plan.cast("warm0").families
            wide = [n for n, family in enumerate(families) if family in ("base", "joint with a key")]
            drawn = programs.sweep(
                random.Random(f"sweep {self.ask.seed}"), self.ask.of_users(surfaces),
                keys=min(SWEEP_KEYS, len(plan.cast("warm0").keys)), pool_size=POOL, wide=wide,
            )  # fmt: skip
            pools = draw_pools(drawn_arguments(self.ask.of_users(surfaces)), self.ask.seed, BATCH)
            script = Script(
                number=self.tally.examples, program=drawn, surfaces=surfaces, plan=plan, pools=pools[0],
                serial=self._take_serials(size), values=(self.ask.seed, 0),
            )  # fmt: skip
            if await self._judge(Example(script, Schedule()), compare=False):
                return

    def _scripts(self) -> Iterable[Script]:
        while True:
            seed = self._random.getrandbits(32)
            for place, pools in enumerate(self._pools(seed)):
                yield self._script(seed, place, pools)

    def _pools(self, seed: int) -> Sequence[Pools]:
        return draw_pools(drawn_arguments(self.ask.of_users(self.ask.dealt(self.ask.users))), seed, BATCH)

    def _script(
        self, seed: int, place: int = 0, pools: Pools | None = None, most_calls: int | None = None
    ) -> Script:
        users = self.ask.users
        plan = self._plan(users)
        surfaces = self.ask.dealt(users)
        rng = random.Random(f"program {seed} {place}")
        acting = list(range(users))
        if users > 8:
            acting = sorted(rng.sample(acting, 8))  # among a thousand nobody would meet anybody
        program = programs.draw(
            rng, self.ask.of_users(surfaces), most_calls=most_calls or self.ask.calls, keys=KEYS, pool_size=POOL,
            users=acting,
        )  # fmt: skip
        return Script(
            number=self.tally.examples, program=program, surfaces=surfaces, plan=plan,
            pools=pools if pools is not None else self._pools(seed)[place],
            serial=self._take_serials(users), values=(seed, place),
        )  # fmt: skip

    def _plan(self, users: int, *, is_sweep: bool = False) -> CastPlan:
        tenants = self.ask.tenants
        if tenants is None and self.ask.boundary == "tenant":
            tenants = max(2, users // 2) if not is_sweep else None
        names = dict.fromkeys(
            argument for ops in self.ask.operations.values() for op in ops.values()
            for argument, spec in op.arguments.items() if isinstance(spec, Keys)
        )  # fmt: skip
        seed = self._random.getrandbits(32)
        kind = self.ask.ids if isinstance(self.ask.ids, str) else "given"
        given: tuple[str, ...] = ()
        if kind == "given":
            given = draw_ids(self.ask.ids, seed, 1, users)[0]
        elif self.tally.refusals >= MOST_REFUSALS:
            kind = "plain"
        return CastPlan(
            ids=kind, seed=seed, count=users, tenants=tenants, argument_names=tuple(names),
            refused=tuple(self.tally.refused), is_sweep=is_sweep, given=given,
            vary="tenant" if self.ask.boundary == "tenant" and is_sweep else "user",
        )  # fmt: skip

    def _take_serials(self, users: int) -> int:
        first = self._serial
        self._serial += users
        return first

    # -- one example ---------------------------------------------------------------------------------

    async def _perform(
        self,
        script: Script,
        chooser: Chooser,
        faults: Sequence[Fault],
        stand_ins: Mapping[tuple[int, str], object] | None = None,
    ) -> View | None:
        """Run a script from an equal start; None where the application refused an id."""
        nonce = self._nonces.fresh()
        cast = script.plan.cast(nonce)
        async with self.starts.fresh() as world:
            run = Run(script, cast, world, self.terms, chooser, Faults(faults), stand_ins)
            try:
                return View(history=await run.perform(), nonce=nonce)
            except Refused:
                self.tally.refusals += 1
                index = run.opening
                if script.plan.ids == "hostile" and cast.families[index] not in ("base", "plain"):
                    self.tally.refused[cast.families[index]] = None
                return None

    async def _judge(self, example: Example, *, recorded: bool = False, compare: bool = True) -> bool:
        """Run an example and report what is new; False where the application refused an id."""
        script = example.script
        if recorded or script.program.sequential:
            chooser: Chooser = Recorded(example.schedule)
            faults: Sequence[Fault] = example.schedule.faults
        else:
            seed = f"walk {script.values} {script.number} {self.ask.seed}"
            chooser = RandomWalk(seed)
            faults = self._faults(script, random.Random(seed + " faults"))
        try:
            seen = await self._perform(script, chooser, faults)
        except Expectation as unmet:
            await self._expectation(example, unmet)
            return True
        if seen is None:
            return False
        history = seen.history
        self.tally.take(history)
        self._progress(self.tally.examples, len(self.findings))
        judged = self.bench.judge(history)
        self.tally.controls |= {script.serial + user for user in judged.controls}
        ran = Example(script, history.schedule)
        findings = list(judged.findings)
        if not findings and compare and self.ask.compares and self.starts.are_equal:
            findings = await self.bench.compare(seen, script, self._rerun, self._random)
        for finding in findings:
            key = (finding.oracle, finding.operation, finding.channel)
            if finding.victim_index is None and finding.oracle == "canary":
                self._strangers.append((ran, finding, history))
                continue
            if key not in self._told and not self._is_over():
                self._told.add(key)
                await self._report(ran, finding, history)
        return True

    def _faults(self, script: Script, rng: random.Random) -> list[Fault]:
        """Draw at most two faults, each at a step that the operation was seen to have."""
        if not self.ask.faults or rng.random() > FAULTY_SHARE:
            return []
        kinds = [kind for name in self.ask.faults for kind in DRAWN[name]]
        calls = [call for call in script.program.calls if call.stage == 0]
        chosen = rng.sample(calls, k=min(len(calls), rng.choice((1, 1, 2))))
        return [
            Fault(call.id, rng.choice(kinds), rng.randint(1, max(1, self.tally.steps.get(call.operation, 3))))
            for call in chosen
        ]

    async def _rerun(
        self, script: Script, schedule: Schedule, stand_ins: Mapping[tuple[int, str], object] | None = None,
        strict: bool = False,
    ) -> tuple[History, str] | None:  # fmt: skip
        seen = await self._perform(script, Recorded(schedule, strict=strict), schedule.faults, stand_ins)
        return (seen.history, seen.nonce) if seen is not None else None

    # -- findings ------------------------------------------------------------------------------------

    async def _again(
        self, example: Example, finding: Finding, strict: bool = False
    ) -> tuple[Example, Finding, History] | None:
        """Run an example once more; None unless the same finding comes."""
        made = await self._rerun(example.script, example.schedule, strict=strict)
        if made is None:
            return None
        history, nonce = made
        if finding.oracle in ("canary",):
            found: Sequence[Finding] = self.bench.judge(history).findings
        else:
            found = await self.bench.recheck(
                finding, View(history=history, nonce=nonce), example.script, self._rerun
            )
        for other in found:
            if other.key == finding.key and (other.victim_index is None) == (finding.victim_index is None):
                return Example(example.script, history.schedule), other, history
        return None

    async def _report(
        self, example: Example, finding: Finding, history: History, *, reduce: bool = True
    ) -> None:
        began = time.monotonic()
        first = len(history.bound)
        last = (finding, history)
        tries = 0
        if reduce:

            async def test(candidate: Example) -> Example | None:
                nonlocal last
                try:
                    again = await self._again(candidate, finding)
                except Expectation:
                    return None
                if again is None:
                    return None
                if again[0].size <= example_size[0]:
                    last = (again[1], again[2])
                    example_size[0] = again[0].size
                return again[0]

            example_size = [example.size]
            users = [u for u in (finding.victim_index, finding.offender_index) if u is not None]
            reducer = Reducer(test, seconds=min(8.0, max(3.0, self.ask.seconds)))
            example = await reducer.reduce(example, users)
            tries = reducer.runs
        same = 0
        for _ in range(REPLAYS):
            try:
                again = await self._again(example, finding, strict=True)
            except Expectation:
                again = None
            if again is not None:
                same += 1
                example, last = again[0], (again[1], again[2])
        small, seen = last
        recording = Recording(
            example=example, seed=self.ask.seed, boundary=self.terms.boundary,
            finding=tuple(str(part) for part in small.key), trace=seen.trace,
        )  # fmt: skip
        story = tell(seen, small, self.bench.redact)
        shrunk = f"from {first} calls to {len(story.lines)} in {tries} runs; the same in {same} of {REPLAYS} replays"
        if same == 0:
            shrunk = (
                f"seen once and not again in {tries + REPLAYS} runs of the same choices: it needs something that an "
                "earlier example left behind"
            )
        if len({u for u in (line.user for line in story.lines)}) == 0:
            story = tell(history, finding, self.bench.redact)
        self.findings.append(self._told_in_words(small, seen, story, shrunk, self._keep(recording)))
        self.budget.extend(time.monotonic() - began)
        self.budget.found()

    def _told_in_words(
        self, finding: Finding, history: History, story: Any, shrunk: str, replay: str
    ) -> Finding:
        from pytest_ssot_isolation.engine.tell import names_by_first_act

        names = names_by_first_act(history)
        old = {p.name: names[p.index] for p in history.principals}
        explanation = " ".join(_renamed(word, old) for word in finding.explanation.split(" "))
        fault = "; ".join(f"{f.words}" for f in history.schedule.faults) or None
        return replace(
            finding,
            victim=old.get(finding.victim or "", finding.victim),
            offender=old.get(finding.offender or "", finding.offender),
            explanation=explanation,
            calls=tuple(
                f"{story.users[line.user].split(' ')[0]}: {line.call} -> {line.answer}"
                for line in story.lines
            ),
            preemptions=history.schedule.preemptions,
            fault=fault,
            shrunk=shrunk,
            replay=replay,
            story=story,
        )

    async def _expectation(self, example: Example, unmet: Expectation) -> None:
        """An assertion of the surface's author failed: it fails the check as such."""
        self.tally.examples += 1
        key = ("expectation", str(unmet.error)[:80])
        if key in self._told:
            return
        self._told.add(key)

        async def test(candidate: Example) -> Example | None:
            try:
                await self._perform(candidate.script, Recorded(candidate.schedule), candidate.schedule.faults)
            except Expectation as other:
                return candidate if type(other.error) is type(unmet.error) else None
            return None

        call = next(c for c in example.script.program.calls if c.id == unmet.call)
        small = await Reducer(test).reduce(example, [])
        text = str(unmet.error).strip() or "assert"
        recording = Recording(
            example=small, seed=self.ask.seed, boundary=self.terms.boundary, finding=("expectation",)
        )
        self.findings.append(
            Finding(
                oracle="expectation",
                operation=call.operation,
                victim=None,
                offender=None,
                channel="result",
                explanation=f"an assertion in {call.operation} failed: {text}",
                calls=tuple(f"user {c.user}: {c.operation}" for c in small.script.program.calls),
                replay=self._keep(recording),
                index=unmet.call,
            )  # fmt: skip
        )
        self.budget.found()


def _renamed(word: str, names: Mapping[str, str]) -> str:
    bare = word.strip(",.;:'")
    for suffix in ("'s", ""):
        stem = bare.removesuffix(suffix) if suffix else bare
        if stem in names and (suffix == "" or bare.endswith(suffix)):
            return word.replace(stem, names[stem], 1)
    return word
