"""Who goes on: a random walk that writes down its choices, or choices that were written down."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

from pytest_ssot_isolation.model.schedule import CLOCK, Anchor, Position, Schedule

CLOCK_SHARE = 0.05
STICKINESS = (0.0, 0.0, 0.5, 0.9)


class RandomWalk:
    """Picks the next user at random, and writes down each choice that was not the natural one.

    A uniform walk over the ready users beat priority-based scheduling and short lists of preemptions on
    six of seven planted races; walks that like to stay find what needs long undisturbed stretches.

    Args:
        seed: Fixes all choices.
    """

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)
        self._stay = self._random.choice(STICKINESS)
        # Most walks settle everywhere and keep ticks apart: each of the two makes runs less alike,
        # so a walk either uses it often or not at all.
        self._flight = self._random.choice((0.0, 0.0, 0.2))
        self._together = self._random.choice((0.0, 0.0, 0.3))
        # Time that is let pass by choice ends a wait that others held up as well as one that is merely slow:
        # what it shows must be confirmed without it, so most walks do without.
        self._clock = self._random.choice((0.0, 0.0, CLOCK_SHARE))
        self._anchors: list[Anchor] = []
        self._in_flight: list[Position] = []
        self._shared: list[Position] = []

    def choose(self, at: Position, users: Sequence[int]) -> int:
        """Stay with the natural choice with the walk's own likelihood, else pick any."""
        chosen = users[0]
        if self._random.random() >= self._stay:
            chosen = self._random.choice(users)
            if chosen == CLOCK and self._random.random() >= self._clock * len(users):
                chosen = users[0]
        if chosen != users[0]:
            self._anchors.append(Anchor(at, chosen))
        return chosen

    def leaves_in_flight(self, at: Position) -> bool:
        """Now and then, in some walks."""
        if self._flight and self._random.random() < self._flight:
            self._in_flight.append(at)
            return True
        return False

    def goes_together(self, at: Position) -> bool:
        """Now and then, in some walks."""
        if self._together and self._random.random() < self._together:
            self._shared.append(at)
            return True
        return False

    def hides(self, at: Position) -> frozenset[tuple[int, int]] | None:
        """Not known beforehand."""
        return None

    def made(self) -> Schedule:
        """The choices so far."""
        return Schedule(
            anchors=tuple(self._anchors), in_flight=tuple(self._in_flight), together=tuple(self._shared)
        )


class Recorded:
    """Obeys choices that were written down, and is natural everywhere else.

    Args:
        schedule: The choices.
        strict: Whether the run is the recorded one itself: then a pending reply is waited for with
            patience, except where the record says that its lane was blocked.
    """

    def __init__(self, schedule: Schedule, *, strict: bool = False) -> None:
        self._schedule = schedule
        self._to = {anchor.at: anchor.to for anchor in schedule.anchors}
        self._in_flight = frozenset(schedule.in_flight)
        self._together = frozenset(schedule.together)
        self._hidden = {blocked.at: frozenset(blocked.lanes) for blocked in schedule.blocked}
        self._strict = strict
        self._obeyed: set[Position] = set()
        self._flown: set[Position] = set()
        self._joined: set[Position] = set()

    def choose(self, at: Position, users: Sequence[int]) -> int:
        """Obey the anchor at this place, where its user can go on."""
        wanted = self._to.get(at)
        if wanted is not None and wanted in users and wanted != users[0]:
            self._obeyed.add(at)
            return wanted
        return users[0]

    def leaves_in_flight(self, at: Position) -> bool:
        """Where it did so in the record."""
        if at in self._in_flight:
            self._flown.add(at)
            return True
        return False

    def goes_together(self, at: Position) -> bool:
        """Where it did so in the record."""
        if at in self._together:
            self._joined.add(at)
            return True
        return False

    def hides(self, at: Position) -> frozenset[tuple[int, int]] | None:
        """Where lanes were blocked in the record."""
        if at in self._hidden:
            return self._hidden[at]
        return frozenset() if self._strict else None

    def made(self) -> Schedule:
        """The choices that came to pass; the others never had their place."""
        return Schedule(
            anchors=tuple(a for a in self._schedule.anchors if a.at in self._obeyed),
            in_flight=tuple(p for p in self._schedule.in_flight if p in self._flown),
            together=tuple(p for p in self._schedule.together if p in self._joined),
        )


class Projected:
    """Lets those who are left go on in the order in which they went on beside the others.

    Where a run without some users keeps more than one, what they do to each other must come in the same
    order as before: else two team-mates' race would look like the absent users' doing.

    Args:
        path: User and call of each step of the run with everybody.
        calls: Ids of the calls that are left.
    """

    def __init__(self, path: Sequence[tuple[int, int]], calls: frozenset[int]) -> None:
        self._left = deque(step for step in path if step[1] in calls)
        self._call: dict[int, int] = {}

    def choose(self, at: Position, users: Sequence[int]) -> int:
        """The first of those ready in the order of the other run."""
        ready = set(users)
        return next((user for user, _ in self._left if user in ready), users[0])

    def began(self, user: int, call: int) -> None:
        """Forget steps of the user's earlier calls that were not needed this time: they are no turn of this one."""
        earlier, self._call[user] = self._call.get(user), call
        if earlier is not None and (user, earlier) in self._left:
            self._left = deque(step for step in self._left if step != (user, earlier))

    def stepped(self, user: int, call: int) -> None:
        """Take note of a step; one that the other run did not have changes nothing."""
        if self._left and self._left[0] == (user, call):
            self._left.popleft()
        elif (user, call) in self._left:
            self._left.remove((user, call))

    def leaves_in_flight(self, at: Position) -> bool:
        """Never: alone there is less in flight."""
        return False

    def goes_together(self, at: Position) -> bool:
        """Never."""
        return False

    def hides(self, at: Position) -> frozenset[tuple[int, int]] | None:
        """Not known beforehand."""
        return None
