"""What calls were seen to do: how often they wait, and whether they answer with anything."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from pytest_ssot_isolation.model.history import Outcome

if TYPE_CHECKING:
    import random

    from pytest_ssot_isolation.model.history import History

OFTEN = 8
"""Calls after which an operation that never answered with anything is taken for one that never does."""

GUESS = 2
"""Awaits of a call that was not seen yet."""


class Habits:
    """What the operations of one check were seen to do; programs and faults are drawn by it."""

    def __init__(self) -> None:
        self.telling: set[str] = set()
        """Names of operations that answered with something."""
        self._succeeded: Counter[str] = Counter()
        self._awaits: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def learn(self, history: History) -> None:
        """Take note of one run."""
        telling = self.telling
        for seen in history.observations:
            if (
                seen.operation not in telling
                and seen.channel == "result"
                and seen.call >= 0
                and seen.outcome is Outcome.OK
            ):
                self._succeeded[seen.operation] += 1
                if seen.seen is not None and _says(seen.seen):
                    telling.add(seen.operation)
        bound, cut = history.bound, {fault.call for fault in history.schedule.faults}
        for call, steps in history.resumptions.items():
            if call in bound and call not in cut:
                # The step after the last await is made by no fault's choice: so many steps have one await less.
                self._awaits[bound[call].operation][max(0, steps - 1)] += 1

    @property
    def silent(self) -> frozenset[str]:
        """Names of operations that succeeded often and never answered with anything, such as to join a room."""
        often = {name for name, times in self._succeeded.items() if times >= OFTEN}
        return frozenset(often - self.telling)

    def awaits(self, operation: str, random: random.Random) -> int:
        """How often a call of an operation waits: as often as some call did that was seen."""
        seen = self._awaits.get(operation)
        if not seen:
            return GUESS
        # An operation may wait often only where it has to connect first: what is rare has a share of its own.
        if random.random() < 0.5:
            return random.choice(sorted(seen))
        return random.choices(list(seen), list(seen.values()))[0]


def _says(seen: object) -> bool:
    """Whether an answer carries anything; of a response its body is asked."""
    if isinstance(seen, dict) and "status" in seen and "body" in seen:
        seen = seen["body"]
    return seen not in (None, True, False, "", b"") and seen != [] and seen != {}
