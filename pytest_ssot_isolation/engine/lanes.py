"""The state of one run at the gate: lanes, the place where it stands, and what was chosen."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from pytest_ssot_isolation.engine.waits import Wait, has_begun, site_of, wait_of
from pytest_ssot_isolation.model.schedule import APP, START, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from pytest_ssot_isolation.engine.outside import Connection

USER: ContextVar[int | None] = ContextVar("ssot_user", default=None)
"""Index of the user whose code runs; inherited by the tasks which that code starts."""


class Chooser(Protocol):
    """The decisions of a schedule, one small question each."""

    def choose(self, at: Position, users: Sequence[int]) -> int:
        """Name who goes on; the caller puts the natural choice first."""
        ...

    def picks(self, at: Position, user: int, lanes: Sequence[int]) -> int:
        """Name the place of the lane that goes on among a user's; these are numbers, the natural one first."""
        ...

    def leaves_in_flight(self, at: Position) -> bool:
        """Say whether the run goes on here without waiting for pending replies."""
        ...

    def goes_together(self, at: Position) -> bool:
        """Say whether the next step shares this tick of the event loop."""
        ...

    def hides(self, at: Position) -> frozenset[tuple[int, int]] | None:
        """Lanes that waited in a server here; None where that is not known beforehand."""
        ...


class Lane:
    """The steps of one task, in their order."""

    __slots__ = ("_wait", "key", "made", "number", "served", "serves", "since", "steps", "task", "user")

    def __init__(self, user: int, number: int, task: asyncio.Task[object]) -> None:
        self.user = user
        self.number = number
        self.task = task
        self.steps: deque[asyncio.Handle] = deque()
        self.key = (user, number)
        """User, and creation number within the user."""
        self.made = 0
        """Steps that the task made by choice."""
        self.serves = False
        """Whether what woke it came from a socket: then its steps are a server's answer, and no choice."""
        self.served = False
        """Whether that was ever so: then when it is ready is nobody's choice either."""
        self.since = 0
        """The tick of the loop in which its first step became ready."""
        self._wait: Wait | None = None

    def moved(self) -> None:
        """Forget what the task waited on: it made a step."""
        self._wait = None

    @property
    def wait(self) -> Wait:
        """What the parked task waits on; read once, since it cannot change while parked."""
        if self._wait is None:
            self._wait = wait_of(self.task)
        return self._wait


class Turns:
    """One run at the gate.

    Args:
        chooser: Makes the choices.
        main: The harness's own task, which passes the gate.
        most_steps: Steps without the end of a call after which the run is given up as stuck.
        grace: Seconds to wait for a reply before its lane counts as blocked by another user.
        patience: Seconds without any step after which the run is given up as stuck.
        blocked: Asks the servers whether somebody waits for another's lock; None where that
            cannot be asked.
    """

    def __init__(
        self,
        chooser: Chooser,
        *,
        main: asyncio.Task[object] | None = None,
        most_steps: int = 20_000,
        grace: float = 0.03,
        patience: float = 5.0,
        blocked: Callable[[], int] | None = None,
    ) -> None:
        self.chooser = chooser
        self.main = main
        self.most_steps = self._patient_for = most_steps
        self.grace = grace
        self.patience = patience
        self.blocked = blocked
        self.lanes: dict[asyncio.Task[object], Lane] = {}
        self.flying: set[tuple[int, int]] = set()
        self.sent_over: Connection | None = None
        self.woken: Lane | None = None
        self.can_go_on = False
        self.tick = 0
        self.current: Lane | None = None
        self.here: Position = START
        self.steps = 0
        self.trace: list[tuple[int, int]] = []
        self.hidden: dict[Position, tuple[tuple[int, int], ...]] = {}
        self.known_blocked: set[tuple[int, int]] = set()
        self.has_strayed = False
        self.ended_at = 0.0
        self.path: list[tuple[int, int, int]] = []
        self.sites: list[tuple[int, str]] | None = None
        self.stopped: BaseException | None = None
        self.when_stopped: Callable[[], None] = lambda: None
        self.before_step: Callable[[Lane], None] | None = None
        self.after_step: Callable[[Lane], None] | None = None
        self._stepped = getattr(chooser, "stepped", None)
        self._began = getattr(chooser, "began", None)
        self._made: Counter[int] = Counter()
        self._call_of: dict[int, tuple[int, int]] = {APP: (-1, 0)}
        self._steps_of_app: Counter[int] = Counter()

    def lane_of(self, task: asyncio.Task[object], context: Context | None) -> Lane | None:
        """The lane of a task, made when it is first seen; None for the harness's own task."""
        if task is self.main:
            return None
        lane = self.lanes.get(task)
        if lane is None:
            user = context.get(USER) if context is not None else USER.get()
            lane = self.add_lane(APP if user is None else user, task)
        return lane

    def add_lane(self, owner: int, task: asyncio.Task[object]) -> Lane:
        """Make the next lane of a user."""
        lane = self.lanes[task] = Lane(owner, self._made[owner], task)
        self._made[owner] += 1
        return lane

    def begin_call(self, user: int, call: int) -> None:
        """Count the user's steps anew, from the first of this call."""
        self._call_of[user] = (call, 0)
        if self._began is not None:
            self._began(user, call)

    def end_call(self) -> None:
        """Count the steps that may follow anew: a call ended, so the run is not stuck, however long it is."""
        self.most_steps = self.steps + self._patient_for
        self.ended_at = time.monotonic()

    def note_step(self, lane: Lane) -> None:
        """Move to the place after a step of this lane."""
        lane.made += 1
        call = self._count(lane.user)
        if lane.user == APP:
            call = -1
        elif call != self._call_of[APP][0]:
            # What the application does of its own hangs on the call before it: dropping others shifts nothing.
            self._call_of[APP] = (call, self._steps_of_app[call])
        self.trace.append(lane.key)
        if self.sites is not None:
            self.sites.append((lane.user, site_of(lane.task) if has_begun(lane.task) else ""))
        self.path.append((lane.user, call, lane.number))
        if self._stepped is not None:
            self._stepped(lane.user, call, lane.number)
        self.steps += 1
        self.current = lane

    def _count(self, user: int) -> int:
        """Move to the next place in a user's call, and give that call."""
        call, made = self._call_of.get(user, (-1, 0))
        self.here = (user, call, made + 1)
        self._call_of[user] = (call, made + 1)
        if user == APP:
            self._steps_of_app[call] = made + 1
        return call

    def note_clock(self) -> None:
        """Move to the place after time was let pass: two choices are never at one place."""
        self._count(self.here[0])
        self.trace.append((-2, 0))
        self.steps += 1

    @property
    def unfinished(self) -> tuple[int, ...]:
        """Users with a task that has not ended."""
        live = {lane.user for lane in self.lanes.values() if lane.user != APP and not lane.task.done()}
        return tuple(sorted(live))

    def anybody_waited(self) -> bool:
        """Whether a lane has a step that was ready before this tick: what it follows from has all run.

        A server's answer does not count: when it comes is nobody's choice.
        """
        return any(lane.steps and lane.since < self.tick and not lane.serves for lane in self.lanes.values())

    def natural(self, ready: Sequence[Lane]) -> list[int]:
        """Users with a ready lane, the natural choice first: go on with the current one."""
        if len(ready) == 1:
            return [ready[0].user]
        users = {lane.user for lane in ready}
        ordered = sorted(users)  # the application's own comes first
        if self.current is not None and self.current.user in users:
            ordered.remove(self.current.user)
            ordered.insert(0, self.current.user)
        return ordered

    def lane_for(self, user: int, ready: Sequence[Lane]) -> Lane:
        """The lane of a user that goes on: the one that ran last, else the oldest."""
        oldest: Lane | None = None
        for lane in ready:
            if lane.user == user:
                if lane is self.current:
                    return lane
                if oldest is None or lane.number < oldest.number:
                    oldest = lane
        return oldest if oldest is not None else ready[0]

    def picked(self, user: int, ready: Sequence[Lane]) -> Lane:
        """The lane of a user that goes on; where the user has several, that is a choice, too."""
        natural = self.lane_for(user, ready)
        if len(ready) == 1 or natural.served:
            return natural
        others = [lane for lane in ready if lane.user == user and lane is not natural and not lane.served]
        if not others:
            return natural
        mine = [natural, *sorted(others, key=lambda lane: lane.number)]
        return mine[self.chooser.picks(self.here, user, [lane.number for lane in mine])]

    def stop(self, reason: BaseException) -> None:
        """Give the run up; the first reason counts."""
        if self.stopped is None:
            self.stopped = reason
            self.when_stopped()

    def describe(self) -> str:
        """Each waiting task with what it waits on and where, a line each."""
        from pytest_ssot_isolation.model.history import name_of

        lines = []
        for lane in sorted(self.lanes.values(), key=lambda lane: lane.key):
            if not lane.task.done():
                who = "the application" if lane.user == APP else name_of(lane.user)
                state = "has a step ready" if lane.steps else f"waits on {lane.wait.kind.value}"
                lines.append(f"{who}: {state}, at {lane.wait.site}")
        return "\n".join(lines)
