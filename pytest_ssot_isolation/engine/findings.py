"""From a finding in a long run to one that a person can read: made small, run again, told as a story."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from pytest_ssot_isolation.engine.ask import COMPARING, Ask
from pytest_ssot_isolation.engine.attempts import Attempts
from pytest_ssot_isolation.engine.judge import Bench
from pytest_ssot_isolation.engine.record import Recording
from pytest_ssot_isolation.engine.reduce import Example, Reducer, among
from pytest_ssot_isolation.engine.session import Expectation
from pytest_ssot_isolation.engine.switches import switches
from pytest_ssot_isolation.engine.tell import names_by_first_act, tell
from pytest_ssot_isolation.model.history import History, Outcome
from pytest_ssot_isolation.model.story import Story
from pytest_ssot_isolation.model.verdict import Finding

Keep: TypeAlias = Callable[[Recording, Sequence[str]], str]
"""Takes a recording and its story; gives what ``--ssot-replay`` takes for it."""

REPLAYS = 5
CONFIRMED, CONFIRMING = 2, 2.0
"""Replays of a comparison that are confirmed whatever it takes, and seconds in which more of them are."""

AS_FOUND = 3
"""Replays of the example as it was found, where the small one never shows it again."""

LEAST_SECONDS, MOST_SECONDS = 3.0, 8.0
"""Seconds that the reduction of one finding may take."""

MOST_IN_ALL = 60.0
"""Seconds that all findings of a check may take to be made small and run again, beside one run of each."""

ALL_HAVE = "a matter of how much all of them have together, such as a cache that is full"

CROWD, LARGE_CROWD = 40, 80
"""Users whom a difference must need at least to be told as a matter of how much all have; where a call fails, more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A finding, the example in which it was seen, and its history."""

    example: Example
    finding: Finding
    history: History


class Teller:
    """Makes what was found small, and tells it.

    Args:
        ask: The check.
        attempts: Runs examples.
        bench: The oracles.
        keep: Takes the recording; gives what ``--ssot-replay`` takes for it.
    """

    def __init__(
        self, ask: Ask, attempts: Attempts, bench: Bench, keep: Callable[[Recording, Sequence[str]], str]
    ) -> None:
        self._ask = ask
        self._attempts = attempts
        self._bench = bench
        self._keep = keep
        self._left = MOST_IN_ALL

    async def tell(self, seen: Seen, *, reduce: bool = True) -> Finding:
        """Reduce a finding, replay it, and tell its story."""
        began = time.monotonic()
        try:
            return await self._told(seen, reduce=reduce, until=began + self._left)
        finally:
            self._left = max(0.0, self._left - (time.monotonic() - began))

    async def _told(self, seen: Seen, *, reduce: bool, until: float) -> Finding:
        calls, tries, small = len(seen.history.bound), 0, seen
        victim = seen.example.script.member(seen.finding.victim_index or 0)
        if reduce and seen.finding.oracle in COMPARING and seen.example.script.program.sequential:
            seen, needed = await self._without_the_crowd(seen, victim)
            if needed:
                doubtful = replace(seen, finding=_in_doubt(seen.finding))
                return self._in_words(
                    doubtful, f"it comes only where some {needed} users act, whoever they are: {ALL_HAVE}"
                )
            small = seen
        if reduce:
            # Half of the time for one finding at most: the next ones come off worse, but come off.
            small, tries = await self._reduced(seen, (until - time.monotonic()) / 2)
        same, replays = 0, 0
        self._bench.explained.clear()
        began = time.monotonic()
        while replays < REPLAYS and (not replays or time.monotonic() < until):
            # A comparison is confirmed by twenty runs; of a slow application the last replays only show it again.
            confirm = replays < CONFIRMED or time.monotonic() < began + CONFIRMING
            again = await self._again(small.example, seen.finding, victim, strict=True, confirm=confirm)
            replays += 1
            if again is not None:
                same += 1
                small = again
        if not same and small.example != seen.example:
            # Only what was dropped may have made it certain.
            self._bench.explained.clear()
            for _ in range(AS_FOUND):
                again = await self._again(seen.example, seen.finding, victim, strict=True, confirm=True)
                replays += 1
                if again is not None:
                    same += 1
                    small = again
        cut = "" if replays >= REPLAYS else f" (cut short after {MOST_IN_ALL:g} s for all findings)"
        if (
            small.finding.oracle in COMPARING
            and (small.finding.index, small.finding.path) in self._bench.explained
        ):
            small = replace(seen, finding=_in_doubt(seen.finding))
            shrunk = (
                "in some runs the same was seen without the others, at another pace: nothing that they told; the "
                f"same in {same} of {replays} replays{cut}"
            )
        elif same:
            how = (
                f"from {calls} to {len(small.history.bound)} calls in {tries} runs"
                if reduce
                else "run as recorded"
            )
            shrunk = f"{how}; the same in {same} of {replays} replays{cut}"
            if small.finding.oracle == "noninterference" and (same < replays or small.history.has_workers):
                small = replace(small, finding=_perhaps_load(small.finding))
        else:
            small = replace(seen, finding=_in_doubt(seen.finding))
            shrunk = (
                f"seen once, and not in {tries + replays} more runs of the same choices: it needs something that "
                f"earlier runs left behind, or that differs from run to run{cut}"
            )
        return self._in_words(small, shrunk)

    async def sees(self, example: Example, finding: Finding) -> Seen | None:
        """Run an example; None unless the finding comes."""
        return await self._again(example, finding, example.script.member(finding.victim_index or 0))

    async def expectation(
        self, example: Example, unmet: Expectation, *, reduce: bool = True
    ) -> tuple[Finding, BaseException]:
        """Tell of an assertion of the author's own, with the history made small; the last error comes too."""
        last = unmet

        async def fails(candidate: Example, follows: bool, *, strict: bool = False) -> Example | None:
            nonlocal last
            try:
                order = candidate.path if follows else ()
                await self._attempts.again(candidate.script, candidate.schedule, strict=strict, order=order)
            except Expectation as other:
                if other.place == unmet.place:
                    last = other
                    return Example(candidate.script, other.history.schedule, other.history.path)
            return None

        reducer = Reducer(fails, seconds=self._seconds)
        small = await reducer.reduce(example, shown=unmet.call) if reduce else example
        same = sum([await fails(small, False, strict=True) is not None for _ in range(REPLAYS)])
        history = last.history
        text = str(last.error).strip().partition("\n")[0] or "assert"
        bound = history.bound[last.call]
        finding = Finding(
            oracle="expectation",
            operation=bound.operation,
            victim=history.principals[bound.user].name,
            victim_index=bound.user,
            explanation=f"an assertion of the author's own failed in {bound.operation}: {text}",
            index=last.call,
        )
        before, after = len(example.script.program.calls), len(small.script.program.calls)
        how = f"from {before} to {after} calls in {reducer.runs} runs" if reduce else "run as recorded"
        seen = Seen(Example(small.script, history.schedule), finding, history)
        return self._in_words(seen, f"{how}; the same in {same} of {REPLAYS} replays"), last.error

    @property
    def _seconds(self) -> float:
        return min(MOST_SECONDS, max(LEAST_SECONDS, self._ask.seconds))

    async def _without_the_crowd(self, seen: Seen, victim: int) -> tuple[Seen, int]:
        """The finding among few users; or how many it needs, where that tells of no one in particular.

        A cache of 300 places that 360 users share forgets what was in it: beside others, not because of what they do.
        """
        while len(users := seen.example.script.program.users) > CROWD:
            observer = seen.example.script.index_of(victim)
            others = [user for user in users if user != observer]
            half = len(others) // 2
            for part in (others[:half], others[half:]):
                fewer = among(seen.example, [user for user in (*part, observer) if user is not None])
                again = await self._again(fewer, seen.finding, victim)
                if again is not None:
                    seen = again
                    break
            else:
                answer = seen.history.of_call(seen.finding.index)
                failed = answer is not None and answer.outcome is not Outcome.OK
                return seen, len(users) if len(users) > (LARGE_CROWD if failed else CROWD) else 0
        return seen, 0

    async def _reduced(self, seen: Seen, patience: float) -> tuple[Seen, int]:
        smallest = seen
        victim = seen.example.script.member(seen.finding.victim_index or 0)

        async def test(candidate: Example, follows: bool) -> Example | None:
            nonlocal smallest
            again = await self._again(candidate, seen.finding, victim, follows=follows)
            if again is None:
                return None
            if again.example.size <= smallest.example.size:
                smallest = again
            return again.example

        users = [
            user for user in (seen.finding.victim_index, seen.finding.offender_index) if user is not None
        ]
        reducer = Reducer(test, seconds=self._seconds, patience=patience)
        await reducer.reduce(seen.example, users, seen.finding.index, seen.finding.evidence)
        return smallest, reducer.runs

    async def _again(
        self,
        example: Example,
        finding: Finding,
        victim: int,
        *,
        strict: bool = False,
        confirm: bool = False,
        follows: bool = False,
    ) -> Seen | None:
        """Run an example once more; None unless the same finding comes: reduction never slides to another bug."""
        try:
            order = example.path if follows else ()
            view = await self._attempts.again(example.script, example.schedule, strict=strict, order=order)
        except Expectation:
            return None
        if view is None:
            return None
        if finding.oracle not in COMPARING:
            found: Sequence[Finding] = self._bench.judge(view.history).findings
        else:
            observer = example.script.index_of(victim)
            if observer is None:
                return None
            found = await self._bench.recheck(
                finding, view, example.script, self._attempts, observer, confirm=confirm
            )
        for other in found:
            if other.key == finding.key and (other.victim_index is None) == (finding.victim_index is None):
                made = Example(example.script, view.history.schedule, view.history.path)
                return Seen(made, other, view.history)
        return None

    def _in_words(self, seen: Seen, shrunk: str) -> Finding:
        finding, history = seen.finding, seen.history
        recording = Recording(
            example=seen.example,
            seed=self._ask.seed,
            boundary=self._attempts.terms.boundary,
            finding=tuple(str(part) for part in finding.key),
            trace=history.trace,
        )
        names = names_by_first_act(history)
        story = tell(history, finding, self._bench.redact)
        if history.schedule.preemptions:
            story = replace(story, switches=switches(history.sites, names))
        told = {principal.name: names[principal.index] for principal in history.principals}

        def named(name: str | None) -> str | None:
            return told.get(name, name) if name is not None else None

        return replace(
            finding,
            victim=named(finding.victim),
            offender=named(finding.offender),
            explanation=self._bench.redact(_renamed(finding.explanation, told), _slots(history, names)),
            calls=_lines(story),
            preemptions=history.schedule.preemptions,
            fault="; ".join(fault.words for fault in history.schedule.faults) or None,
            shrunk=shrunk,
            replay=self._keep(recording, _lines(story)),
            story=story,
        )


def _in_doubt(finding: Finding) -> Finding:
    """A comparison says that the others are the cause; where its own runs do not bear that out, it is a hint."""
    return replace(finding, severity="hint") if finding.oracle in COMPARING else finding


def _perhaps_load(finding: Finding) -> Finding:
    """What workers do may hang on how much others ask for, which only the author can judge."""
    field = f"{finding.operation}:{finding.path or '*'}"
    words = (
        f"{finding.explanation}. Where users share workers, how far a job is hangs on the load of others: "
        f'if that is meant, declare it (shared = ("{field}",)), else fix it'
    )
    return replace(finding, explanation=words)


def _lines(story: Story) -> tuple[str, ...]:
    return tuple(
        f"{story.users[line.user].partition(' ')[0]}: {line.call} -> {line.answer}" for line in story.lines
    )


def _slots(history: History, names: dict[int, str]) -> Callable[[int, int], str]:
    owners = {principal.serial: names[principal.index] for principal in history.principals}
    return lambda serial, slot: f"{owners.get(serial, 'of an earlier run')}#{slot}"


def _renamed(text: str, names: dict[str, str]) -> str:
    """People by their names in the story, where the first to act is alice."""
    if not names:
        return text
    pattern = re.compile(r"\b(" + "|".join(re.escape(name) for name in names) + r")\b")
    return pattern.sub(lambda found: names[found[0]], text)
