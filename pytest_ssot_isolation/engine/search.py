"""The hunt: a sweep of look-alike ids, then many fat programs, until the budget ends."""

from __future__ import annotations

import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_ssot_isolation.engine.ask import Ask, Budget
from pytest_ssot_isolation.engine.attempts import Attempts
from pytest_ssot_isolation.engine.choosers import RandomWalk, Recorded
from pytest_ssot_isolation.engine.faults import DRAWN
from pytest_ssot_isolation.engine.findings import Seen, Teller
from pytest_ssot_isolation.engine.habits import Habits
from pytest_ssot_isolation.engine.heap import Collector
from pytest_ssot_isolation.engine.joined import join
from pytest_ssot_isolation.engine.judge import Bench
from pytest_ssot_isolation.engine.record import Recording
from pytest_ssot_isolation.engine.reduce import Example
from pytest_ssot_isolation.engine.run import Terms
from pytest_ssot_isolation.engine.script import Script
from pytest_ssot_isolation.engine.session import Expectation
from pytest_ssot_isolation.engine.tally import Tally
from pytest_ssot_isolation.errors import ReplayMismatch
from pytest_ssot_isolation.generation import faults, programs
from pytest_ssot_isolation.generation.casts import KEYS, SWEEP_KEYS, CastPlan
from pytest_ssot_isolation.generation.values import BATCH, POOL, draw_ids, draw_pools, drawn_arguments
from pytest_ssot_isolation.model.arguments import Keys
from pytest_ssot_isolation.model.canary import MAX_USERS
from pytest_ssot_isolation.model.program import Call, Program
from pytest_ssot_isolation.model.schedule import NATURAL, Fault
from pytest_ssot_isolation.model.verdict import Finding

if TYPE_CHECKING:
    from pytest_ssot_isolation.engine.lanes import Chooser
    from pytest_ssot_isolation.engine.start import Starts
    from pytest_ssot_isolation.generation.values import Pools

SWEEP_SIZES = (360, 260, 180, 120, 80, 60, 40, 24, 12, 6)
"""Users in a sweep: the most whose calls the share of the budget allows."""

SWEEP_SHARE = 0.3
"""Share of a check's seconds that the calls of its sweep may take, by what a call took before."""

FIRST_SWEEP = 80
"""Users in the first sweep at most."""

BEFORE_WIDE = 20
"""Programs before a wide sweep, where nothing was found: most leaks show in so few."""

COMPARING_COSTS = 3.0
"""Times that a call of a sweep may cost what it did in a small program, its comparison counted in."""

MOST_NOT_HOSTILE = 24
ASKED_AGAIN = 10
"""Times that the base of a sweep asks for everything again at its end: limits are often five or ten."""
FIRST, FIRST_SHARE = 4, 0.2
"""Programs before the sweep, where they take no more than this share of the budget; else one."""

MOST_REFUSALS = 20
MOST_FINDINGS = 12
MOST_DOUBTS = 3
"""Times that a difference which never comes again is looked into for one operation."""

MOST_PAST = 200
"""Examples that are remembered, in case a later one meets what they left behind."""

MOST_ACTING = 8
"""Users who act in one program: among a thousand nobody would meet anybody."""


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
        accepts: Gives a finding back, with the reason where it is accepted.
    """

    def __init__(
        self,
        ask: Ask,
        terms: Terms,
        starts: Starts,
        bench: Bench,
        *,
        keep: Callable[[Recording, Sequence[str]], str],
        known: Iterable[Recording] = (),
        progress: Callable[[int, int], None] = lambda examples, findings: None,
        accepts: Callable[[Finding], Finding] = lambda finding: finding,
    ) -> None:
        self.ask = ask
        self._accepts = accepts
        self.starts = starts
        self.bench = bench
        self.tally = Tally()
        self.habits = Habits()
        self.findings: list[Finding] = []
        self.unmet: list[BaseException] = []
        self._collector = Collector()
        self.attempts = Attempts(terms, starts, self.tally, ask.seed, self._collector)
        self._teller = Teller(ask, self.attempts, bench, keep)
        self._known = tuple(known)
        self._progress = progress
        self._random = random.Random(f"hunt {ask.seed}")
        self._serial = 1
        self._told: set[tuple[object, ...]] = set()
        self._strangers: list[Seen] = []
        self._doubts: Counter[tuple[object, ...]] = Counter()
        self._doubtful: dict[tuple[object, ...], Finding] = {}
        self._past: OrderedDict[int, Example] = OrderedDict()
        self._wide: tuple[tuple[int, ...], float] = ((), 0.0)
        self.budget = Budget(ask)

    async def run(self) -> None:
        """Hunt until the budget ends."""
        try:
            with self._collector.held():
                await self._hunt()
        finally:
            self.attempts.terms.watch.close()
            await self.starts.end()
        self._has_to_end()

    def _has_to_end(self) -> None:
        """A world that cannot be left is an error, unless a leak was found: then it may well be what came of it."""
        if self.starts.unended is not None and not any(f.severity == "leak" for f in self.findings):
            raise self.starts.unended

    async def replay(self, recording: Recording) -> None:
        """Run one recorded example, as strictly as it was recorded.

        Raises:
            ReplayMismatch: The steps ran otherwise.
        """
        try:
            await self._replay(recording)
        finally:
            self.attempts.terms.watch.close()
            await self.starts.end()
        self._has_to_end()

    async def _replay(self, recording: Recording) -> None:
        example = recording.example
        try:
            seen = await self.attempts.again(example.script, example.schedule, strict=True)
        except Expectation as unmet:
            self.tally.take(unmet.history)
            if not recording.ran_alike(unmet.history.trace):
                raise _mismatch(recording, unmet.history.trace) from unmet
            finding, error = await self._teller.expectation(example, unmet, reduce=False)
            self.findings.append(finding)
            self.unmet.append(error)
            return
        if seen is None:
            raise ReplayMismatch(
                "The application refused an id of the recorded example at sign-in.\n"
                "To fix this, undo the change that refuses it, or delete the recorded example."
            )
        history = seen.history
        self.tally.take(history)
        if not recording.ran_alike(history.trace):
            raise _mismatch(recording, history.trace)
        findings = list(self.bench.judge(history).findings)
        if history.trouble is not None:
            findings += await self.bench.trouble(seen, example.script, self.attempts)
        elif not _shows(findings) and self.ask.compares and self.starts.are_equal:
            for observer in example.script.program.users:
                findings += await self.bench.compare(seen, example.script, self.attempts, observer)
        for finding in findings:
            told = await self._teller.tell(Seen(example, finding, history), reduce=False)
            self.findings.append(self._accepts(told))

    async def _hunt(self) -> None:
        for recording in self._known:
            script = recording.example.script
            own = replace(script, serial=self._take_serials(len(script.surfaces)))
            await self._judge(replace(recording.example, script=own), recorded=True)
            if self._is_over():
                return
        scripts = self._scripts()
        if self.ask.together:
            await self._judge(Example(self._together(), NATURAL), recorded=True)
        else:
            seconds = await self._warm_up()
            for _ in range(self._before_the_sweep(seconds)):
                await self._judge(Example(next(scripts), NATURAL))
                if self._is_over():
                    return
            await self._sweep(seconds)
        for script in scripts:
            if self._is_over() or not self.budget.allows(self.tally.examples):
                break
            await self._judge(Example(script, NATURAL))
            sizes, most = self._wide
            if sizes and self.tally.examples >= BEFORE_WIDE and not (self.findings or self._strangers):
                self._wide = ((), 0.0)
                if self.budget.allows(self.tally.examples):
                    await self._swept(sizes, most, or_smallest=False)
        await self._meet_strangers()

    def _is_over(self) -> bool:
        if (self.ask.stop_at_first or self.ask.together) and any(map(self.ask.fails_by, self.findings)):
            return True
        return len(self.findings) >= MOST_FINDINGS or self.tally.is_hopeless

    # -- examples ------------------------------------------------------------------------------------

    async def _warm_up(self) -> float:
        """Run one example that is thrown away, and say what a call costs, in seconds.

        The first run differs from all others: drivers look types up, statements are prepared, modules
        are imported.
        """
        script = self._script(self._random.getrandbits(32), most_calls=min(8, self.ask.calls))
        seconds = 0.0
        # The second time is for those who were slow because it was the first. The quick run it too: each run
        # takes the next letters for its ids, so were it left to the clock, a seed would not fix the ids.
        for _ in range(2):
            began = time.perf_counter()
            seen = await self.attempts.again(script, NATURAL)
            calls = 1
            if seen is not None:
                calls = len(seen.history.bound)
                self.habits.learn(seen.history)
            seconds = (time.perf_counter() - began) / max(1, calls)
        return seconds

    def _before_the_sweep(self, seconds: float) -> int:
        """How many programs are run first: a sweep costs dozens, and most leaks show in the first few."""
        if self.ask.examples is not None:
            return min(FIRST, self.ask.examples - 1)
        cheap = FIRST * self.ask.calls * seconds <= FIRST_SHARE * self.ask.seconds
        return FIRST if cheap else 1

    async def _sweep(self, seconds: float) -> None:
        """Run look-alike users one after another: ids need no schedule.

        A small sweep goes first, and a wide one follows later: applications may cost more for each call the more
        there is in them, and what is found among few is quickly made small.
        """
        share = SWEEP_SHARE * min(self.budget.left, self.ask.seconds)
        small = self._sweep_sizes()
        wide = tuple(size for size in small if size > FIRST_SWEEP)
        small = small[len(wide) :]
        began, calls = time.perf_counter(), self.tally.calls
        # A slow application that has leaked already is not asked a hundred times more.
        await self._swept(small, share / max(seconds, 1e-9), or_smallest=not self.findings)
        took = (time.perf_counter() - began) / max(1, self.tally.calls - calls)
        growth = max(1.0, took / max(COMPARING_COSTS * seconds, 1e-9))
        self._wide = (wide, share / max(took * growth, 1e-9))

    def _sweep_sizes(self) -> tuple[int, ...]:
        if not isinstance(self.ask.ids, str):
            return tuple(
                dict.fromkeys(max(2, min(self.ask.users, n)) for n in SWEEP_SIZES if n <= FIRST_SWEEP)
            )
        if self.ask.ids != "hostile":
            return tuple(size for size in SWEEP_SIZES if size <= MOST_NOT_HOSTILE)
        # A sweep without secrets is compared only, and what was compared is slow to make small.
        return SWEEP_SIZES if self.ask.plants else tuple(n for n in SWEEP_SIZES if n <= FIRST_SWEEP)

    async def _swept(self, sizes: Sequence[int], most: float, *, or_smallest: bool = True) -> None:
        """Run the largest of these sweeps that has at most so many calls, and if asked the smallest all the same."""
        for _ in range(MOST_REFUSALS + 2):
            plan, drawn, size = self._sweep_of(sizes, most)
            if len(drawn.calls) > most and not or_smallest:
                return
            surfaces = self.ask.dealt(size)
            pools = draw_pools(drawn_arguments(self.ask.of_users(surfaces)), self.ask.seed, BATCH)
            script = Script(
                number=self.tally.examples,
                program=drawn,
                surfaces=surfaces,
                plan=plan,
                pools=pools[0],
                serial=self._take_serials(size),
                values=(self.ask.seed, 0),
            )
            if await self._judge(Example(script, NATURAL)):
                return

    def _sweep_of(self, sizes: Sequence[int], most: float) -> tuple[CastPlan, Program, int]:
        """The largest sweep of at most so many calls, and its users; the smallest there is, where each has more."""
        whole = self._plan(sizes[0], is_sweep=True)
        for size, again in [*((size, ASKED_AGAIN) for size in sizes), (sizes[-1], 0)]:
            plan = replace(whole, count=size, given=whole.given[:size])
            cast = plan.cast("warm0")
            # Where families are refused, there are fewer relatives than places.
            users = len(cast.contexts)
            drawn = programs.sweep(
                random.Random(f"sweep {self.ask.seed}"),
                self.ask.of_users(self.ask.dealt(users)),
                keys=min(SWEEP_KEYS, len(cast.keys)),
                pool_size=POOL,
                again=again,
                again_on=1 if self.ask.plants else SWEEP_KEYS,
                silent=self.habits.silent,
            )
            if len(drawn.calls) <= most:
                break
        return plan, drawn, users

    def _together(self) -> Script:
        """Every user makes the one call that there is."""
        users = self.ask.users
        (operation,) = next(iter(self.ask.operations.values()))
        return Script(
            number=self.tally.examples,
            program=Program(calls=tuple(Call(user, user, operation) for user in range(users))),
            surfaces=self.ask.dealt(users),
            plan=self._plan(users),
            serial=self._take_serials(users),
        )

    def _scripts(self) -> Iterator[Script]:
        while self.ask.together:
            yield self._together()
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
        if users > MOST_ACTING:
            acting = sorted(rng.sample(acting, MOST_ACTING))
        program = programs.draw(
            rng,
            self.ask.of_users(surfaces),
            most_calls=most_calls or self.ask.calls,
            keys=KEYS,
            pool_size=POOL,
            users=acting,
            telling=self.habits.telling,
        )
        return Script(
            number=self.tally.examples,
            program=program,
            surfaces=surfaces,
            plan=plan,
            pools=pools if pools is not None else self._pools(seed)[place],
            serial=self._take_serials(users),
            values=(seed, place),
        )

    def _plan(self, users: int, *, is_sweep: bool = False) -> CastPlan:
        tenants = self.ask.tenants
        if tenants is None and self.ask.boundary == "tenant":
            tenants = max(2, users // 2) if not is_sweep else None
        names = dict.fromkeys(
            argument
            for ops in self.ask.operations.values()
            for op in ops.values()
            for argument, spec in op.arguments.items()
            if isinstance(spec, Keys)
        )
        seed = self._random.getrandbits(32)
        kind = self.ask.ids if isinstance(self.ask.ids, str) else "given"
        given: tuple[str, ...] = ()
        if kind == "given":
            given = draw_ids(self.ask.ids, seed, 1, users)[0]
        elif self.tally.refusals >= MOST_REFUSALS:
            kind = "plain"
        return CastPlan(
            ids=kind,
            seed=seed,
            count=users,
            tenants=tenants,
            argument_names=tuple(names),
            refused=tuple(self.tally.refused),
            is_sweep=is_sweep,
            given=given,
            vary="tenant" if self.ask.boundary == "tenant" and is_sweep else "user",
        )

    def _take_serials(self, users: int) -> int:
        if self._serial + users >= MAX_USERS:
            self._serial = 1  # the fields of a canary are full: the first numbers are long out of use
        first = self._serial
        self._serial += users
        return first

    # -- one example ---------------------------------------------------------------------------------

    async def _judge(self, example: Example, *, recorded: bool = False) -> bool:
        """Run an example and report what is new; False where the application refused an id."""
        script = example.script
        if recorded or script.program.sequential:
            chooser: Chooser = Recorded(example.schedule)
            struck: Sequence[Fault] = example.schedule.faults
        else:
            seed = f"walk {script.values} {script.number} {self.ask.seed}"
            chooser = RandomWalk(seed)
            struck = self._faults(script, seed)
        try:
            view = await self.attempts.perform(script, chooser, struck)
        except Expectation as unmet:
            made = chooser.made() if isinstance(chooser, RandomWalk) else example.schedule
            done = replace(made, faults=tuple(struck))
            await self._unmet(Example(script, done, unmet.history.path), unmet)
            return True
        if view is None:
            return False
        history = view.history
        self.tally.take(history)
        self.habits.learn(history)
        self._progress(self.tally.examples, len(self.findings))
        judged = self.bench.judge(history)
        self.tally.controls += len(judged.controls)
        ran = Example(script, history.schedule, history.path)
        self._remember(ran)
        findings = list(judged.findings)
        if history.trouble is not None:
            findings += await self.bench.trouble(view, script, self.attempts)
        elif not _shows(findings) and self.ask.compares and self.starts.are_equal:
            observers = self.bench.observers(view, script)
            if observers:
                # In a sweep it is the base: all others are its relatives, and it reads again at the end.
                who = observers[0] if script.program.sequential else self._random.choice(observers)
                findings += await self.bench.compare(view, script, self.attempts, who)
        for finding in findings:
            seen = Seen(ran, finding, history)
            if finding.oracle == "canary" and finding.victim_index is None:
                # Rather a leak within one example, which the next may well show.
                self._strangers.append(seen)
            elif not self._is_over():
                await self._report(seen)
        if not self.starts.has_ended:
            self._has_to_end()
        return True

    def _faults(self, script: Script, seed: str) -> list[Fault]:
        kinds = [kind for name in self.ask.faults for kind in DRAWN[name]]
        if not kinds:
            return []
        rng = random.Random(seed + " faults")
        return faults.draw(rng, script.program, kinds, lambda operation: self.habits.awaits(operation, rng))

    def _remember(self, example: Example) -> None:
        self._past[example.script.serial] = example
        if len(self._past) > MOST_PAST:
            self._past.popitem(last=False)

    # -- findings ------------------------------------------------------------------------------------

    async def _report(self, seen: Seen) -> None:
        finding = seen.finding
        # What is left behind shows in no operation: there its kind tells one bug from another.
        place = finding.operation if finding.operation is not None else finding.path
        key = (finding.oracle, place, finding.channel)
        if key in self._told:
            return
        self._told.add(key)
        began = time.monotonic()
        told = self._accepts(seen.finding if self.ask.only_whether else await self._teller.tell(seen))
        in_doubt = told.severity != seen.finding.severity
        if in_doubt:
            # A sharper sight of the same may follow, and stands for itself then.
            self._doubts[key] += 1
            if self._doubts[key] < MOST_DOUBTS:
                self._told.discard(key)
        if self._doubts[key] > 1 or (self._doubts[key] and not in_doubt):
            self.findings = [f for f in self.findings if f is not self._doubtful[key]]
        if in_doubt:
            self._doubtful[key] = told
        self.findings.append(told)
        self.budget.extend(time.monotonic() - began)
        if told.severity == "leak" and not told.accepted:
            self.budget.found()

    async def _unmet(self, example: Example, unmet: Expectation) -> None:
        self.tally.take(unmet.history)
        key = ("expectation", *unmet.place)
        if key not in self._told:
            self._told.add(key)
            if self.ask.only_whether:
                finding, error = Finding(oracle="expectation", explanation=str(unmet)), unmet.error
            else:
                finding, error = await self._teller.expectation(example, unmet)
            self.findings.append(finding)
            self.unmet.append(error)
            self.budget.found()

    async def _meet_strangers(self) -> None:
        """Tell of canaries that an earlier example left behind, where nothing sharper was found."""
        told = {(f.oracle, f.operation, f.channel) for f in self.findings}
        for seen in self._strangers:
            finding = seen.finding
            key = (finding.oracle, finding.operation, finding.channel)
            if key in told or self._is_over():
                continue
            told.add(key)
            if self.ask.only_whether:
                self.findings.append(self._accepts(finding))
                continue
            joined = await self._with_the_earlier(seen)
            finding = await self._teller.tell(joined or seen, reduce=joined is not None)
            self.findings.append(self._accepts(finding))

    async def _with_the_earlier(self, seen: Seen) -> Seen | None:
        """Join the example with the one that left the canary, and see it again in one history."""
        serial = seen.finding.victim_serial
        earlier = next(
            (e for first, e in self._past.items() if first <= serial < first + len(e.script.surfaces)), None
        )
        if earlier is None:
            return None
        users = len(earlier.script.surfaces) + len(seen.example.script.surfaces)
        both = join(earlier, seen.example, self._take_serials(users))
        if both is None:
            return None
        # Once the owner takes part in the same history, the victim has a number in it.
        return await self._teller.sees(both, replace(seen.finding, victim_index=0))


def _shows(findings: Sequence[Finding]) -> bool:
    """Whether something sharper was seen than a comparison could tell."""
    return any(finding.oracle == "canary" for finding in findings)


def _mismatch(recording: Recording, ran: tuple[tuple[int, int], ...]) -> ReplayMismatch:
    in_flight = bool(recording.example.schedule.in_flight)
    return ReplayMismatch.at_step(recording.trace, ran, in_flight=in_flight)
