"""Who goes on: a random walk that writes down its choices, or choices that were written down."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from pytest_ssot_isolation.model.schedule import APP, CLOCK, Anchor, Pick, Position, Schedule

CLOCK_SHARE = 0.05
RESTLESS, UNIFORM = -1.0, 0.0
MOODS = (*[RESTLESS] * 3, *[UNIFORM] * 4, 0.7)
"""What a walk is like: it never stays with the user who went on last where another can go on, or picks anybody,
or stays so often. On each planted race the restless found most and the sticky least; a leak that needs an
undisturbed stretch is left to those."""


class RandomWalk:
    """Picks the next user at random, and writes down each choice that was not the natural one.

    A uniform walk over the ready users beat priority-based scheduling and short lists of preemptions on
    six of seven planted races; see ``MOODS`` for the others.

    Args:
        seed: Fixes all choices.
    """

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)
        self._stay = self._random.choice(MOODS)
        # Most walks settle everywhere and keep ticks apart: each of the two makes runs less alike,
        # so a walk either uses it often or not at all.
        self._flight = self._random.choice((0.0, 0.0, 0.2))
        self._together = self._random.choice((0.0, 0.0, 0.3))
        # Time that is let pass by choice ends a wait that others held up as well as one that is merely slow:
        # what it shows must be confirmed without it, so most walks do without.
        self._clock = self._random.choice((0.0, 0.0, CLOCK_SHARE))
        self._seed = seed
        self._among: random.Random | None = None
        self._picking = 0.0
        self._anchors: list[Anchor] = []
        self._picks: list[Pick] = []
        self._in_flight: list[Position] = []
        self._shared: list[Position] = []

    def choose(self, at: Position, users: Sequence[int]) -> int:
        """Stay with the natural choice with the walk's own likelihood, else pick another."""
        chosen = users[0]
        if self._random.random() >= self._stay:
            chosen = self._random.choice(users[1:] if self._stay == RESTLESS else users)
            if chosen == CLOCK and self._random.random() >= self._clock * len(users):
                chosen = users[0]
        if chosen != users[0]:
            self._anchors.append(Anchor(at, chosen))
        return chosen

    def picks(self, at: Position, user: int, lanes: Sequence[int]) -> int:
        """Any of a user's own tasks, in most walks."""
        if self._among is None:
            # Drawn apart: the walk among users is the same with and without.
            self._among = random.Random(f"picks {self._seed}")
            self._picking = self._among.choice((0.0, 0.5, 1.0))
        if self._among.random() >= self._picking:
            return 0
        place = self._among.randrange(len(lanes))
        if place:
            self._picks.append(Pick(at, place))
        return place

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
            anchors=tuple(self._anchors),
            in_flight=tuple(self._in_flight),
            together=tuple(self._shared),
            picks=tuple(self._picks),
        )


class Settling:
    """Waits for each reply, and gives each step a tick of its own: runs without some users have less in flight."""

    def leaves_in_flight(self, at: Position) -> bool:
        """Never."""
        return False

    def goes_together(self, at: Position) -> bool:
        """Never."""
        return False

    def hides(self, at: Position) -> frozenset[tuple[int, int]] | None:
        """Not known beforehand."""
        return None


class Laggard(Settling):
    """Lets the application's own tasks be slow: users go first, and time may pass while such a task could go on.

    Beside others a worker that users share has their jobs to do as well. Alone it has time for the one user, and
    only where it is slow does that user see a job of it as others made it: still in the queue.

    Args:
        seed: Fixes all choices.
    """

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)
        self._anchors: list[Anchor] = []
        self._picks: list[Pick] = []

    def choose(self, at: Position, users: Sequence[int]) -> int:
        """The natural one of the users; without any, the application or the clock."""
        ready = [user for user in users if user not in (APP, CLOCK)]
        chosen = ready[0] if ready else self._random.choice(users)
        if chosen != users[0]:
            self._anchors.append(Anchor(at, chosen))
        return chosen

    def picks(self, at: Position, user: int, lanes: Sequence[int]) -> int:
        """Any of the application's tasks; a user's own in their order."""
        place = self._random.randrange(len(lanes)) if user == APP else 0
        if place:
            self._picks.append(Pick(at, place))
        return place

    def made(self) -> Schedule:
        """The choices so far."""
        return Schedule(anchors=tuple(self._anchors), picks=tuple(self._picks))


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
        self._place = {pick.at: pick.place for pick in schedule.picks}
        self._in_flight = frozenset(schedule.in_flight)
        self._together = frozenset(schedule.together)
        self._hidden = {blocked.at: frozenset(blocked.lanes) for blocked in schedule.blocked}
        self._strict = strict
        self._obeyed: set[Position] = set()
        self._picked: set[Position] = set()
        self._flown: set[Position] = set()
        self._joined: set[Position] = set()

    def choose(self, at: Position, users: Sequence[int]) -> int:
        """Obey the anchor at this place, where its user can go on."""
        wanted = self._to.get(at)
        if wanted is not None and wanted in users and wanted != users[0]:
            self._obeyed.add(at)
            return wanted
        return users[0]

    def picks(self, at: Position, user: int, lanes: Sequence[int]) -> int:
        """The place in the record, where there are so many."""
        place = self._place.get(at, 0)
        if not 0 < place < len(lanes):
            return 0
        self._picked.add(at)
        return place

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
            picks=tuple(p for p in self._schedule.picks if p.at in self._picked),
        )


class Projected(Settling):
    """Lets those who are left go on in the order in which they went on beside the others.

    Where a run without some users keeps more than one, what they do to each other must come in the same
    order as before: else two team-mates' race would look like the absent users' doing.

    Args:
        path: User, call and number of the task of each step of the run with everybody.
        calls: Ids of the calls that are left.
    """

    def __init__(self, path: Sequence[tuple[int, int, int]], calls: frozenset[int]) -> None:
        self._left = deque(step for step in path if step[1] in calls)
        self._call: dict[int, int] = {}

    def choose(self, at: Position, users: Sequence[int]) -> int:
        """The first of those ready in the order of the other run.

        Steps of a user's earlier calls that were not needed this time are no turn of the present one.
        """
        ready = set(users)
        return next(
            (user for user, call, _ in self._left if user in ready and self._call.get(user, call) == call),
            users[0],
        )

    def began(self, user: int, call: int) -> None:
        """Take note of the user's present call."""
        self._call[user] = call

    def picks(self, at: Position, user: int, lanes: Sequence[int]) -> int:
        """The user's own tasks in the order of the other run: a race with oneself is nobody else's doing.

        Also those that an earlier call set to work, such as the handler of a connection that was dropped.
        """
        if user == APP:
            return 0  # the numbers of its tasks are others, where fewer users set it to work
        wanted = next((lane for who, _, lane in self._left if who == user and lane in lanes), lanes[0])
        return lanes.index(wanted)

    def stepped(self, user: int, call: int, lane: int) -> None:
        """Take note of a step; one that the other run did not have changes nothing."""
        if (place := self._place_of(user, call, lane)) is not None:
            del self._left[place]

    def _place_of(self, user: int, call: int, lane: int) -> int | None:
        """Where a step stands among those that are left, or the first of that call where it is another task's."""
        if self._left and self._left[0] == (user, call, lane):
            return 0  # mostly so; to look through all of them takes longer than the step
        places = [place for place, step in enumerate(self._left) if step[:2] == (user, call)]
        return next(
            (place for place in places if self._left[place][2] == lane), places[0] if places else None
        )


class Alongside(Projected):
    """As ``Projected``, with the application's own tasks at the places that they had between the users' steps.

    A task that delivers what a call asked for may come before the next call or after it: so the observer alone
    waits for it as long as beside the others.

    Args:
        path: Of the run with everybody.
        calls: Ids of the calls that are left.
        to_rest: Whether such a task goes on at each of these places until it is at rest: with less to do it takes
            other steps.
    """

    def __init__(self, path: Sequence[tuple[int, int, int]], calls: frozenset[int], *, to_rest: bool) -> None:
        super().__init__(path, calls | {-1})
        self._to_rest = to_rest

    def choose(self, at: Position, users: Sequence[int]) -> int:
        """Whose step comes next; the application is passed over where it has nothing to do."""
        ready = set(users)
        for step in list(self._left):
            user, call, _ = step
            if (user == APP and APP not in ready) or call < self._call.get(user, -1):
                self._left.remove(step)
            elif user == APP or (user in ready and self._call.get(user, call) <= call):
                return user
        return users[0]

    def stepped(self, user: int, call: int, lane: int) -> None:
        """Take note of a step; what the application did before a user's has passed with it."""
        if user == APP:
            if (
                not self._to_rest
                and (first := next((s for s in self._left if s[0] == APP), None)) is not None
            ):
                self._left.remove(first)
            return
        if (there := self._place_of(user, call, lane)) is not None:
            left = enumerate(self._left)
            self._left = deque(s for place, s in left if place > there or (place < there and s[0] != APP))


class Following(Projected):
    """As ``Projected``, where a reduction drops calls; what it chose is written down.

    Args:
        path: Of the run with all calls.
        calls: Ids of the calls that are left.
        schedule: Of that run; says at which places steps shared a tick or requests stayed in flight.
    """

    def __init__(
        self, path: Sequence[tuple[int, int, int]], calls: frozenset[int], schedule: Schedule
    ) -> None:
        super().__init__(path, calls)
        self._recorded = Recorded(schedule)
        self._anchors: list[Anchor] = []
        self._picks: list[Pick] = []

    def choose(self, at: Position, users: Sequence[int]) -> int:
        """As ``Projected``."""
        chosen = super().choose(at, users)
        if chosen != users[0]:
            self._anchors.append(Anchor(at, chosen))
        return chosen

    def picks(self, at: Position, user: int, lanes: Sequence[int]) -> int:
        """As ``Projected``."""
        place = super().picks(at, user, lanes)
        if place:
            self._picks.append(Pick(at, place))
        return place

    def leaves_in_flight(self, at: Position) -> bool:
        """Where it did so in the record."""
        return self._recorded.leaves_in_flight(at)

    def goes_together(self, at: Position) -> bool:
        """Where it did so in the record."""
        return self._recorded.goes_together(at)

    def made(self) -> Schedule:
        """The choices so far."""
        return replace(self._recorded.made(), anchors=tuple(self._anchors), picks=tuple(self._picks))
