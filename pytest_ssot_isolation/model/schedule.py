"""The choices that make one run of a program: who goes on, and what is done to whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pytest_ssot_isolation.model.quick import quick

APP = -1
"""The lane of tasks that belong to no user."""

CLOCK = -2
"""Not a user: let virtual time pass."""

Position: TypeAlias = tuple[int, int, int]
"""User who acted last, that user's call (-1 before the first), and steps made since the call began."""

START: Position = (APP, -1, 0)


@quick
@dataclass(frozen=True, slots=True)
class Anchor:
    """A choice that was not the natural one.

    Anchored to a call and not to a step of the whole run: dropping another call shifts nothing.

    Attributes:
        at: Where the choice was made.
        to: The user who went on instead, ``APP`` or ``CLOCK``.
    """

    at: Position
    to: int


@dataclass(frozen=True, slots=True)
class Pick:
    """Which of several tasks of one user went on, where it was not the natural one.

    Attributes:
        at: Where the choice was made.
        place: Among the user's ready tasks: the natural one is 0, the others follow by age.
    """

    at: Position
    place: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Something done to one call.

    Attributes:
        call: Id of the call.
        kind: ``"cancel"`` (before the step), ``"cancel in flight"`` (right after the step
            that sent), ``"timeout"`` or ``"disconnect"``.
        step: The resumption of the call's own root task, from 1.
    """

    call: int
    kind: str
    step: int

    @property
    def words(self) -> str:
        """The fault as a person would say it."""
        said = {
            "cancel": "cancelled before step {}",
            "cancel in flight": "cancelled in flight after step {}",
            "timeout": "timed out at step {}",
            "disconnect": "connection dropped at step {}",
        }
        return said.get(self.kind, self.kind + " at step {}").format(self.step)


@dataclass(frozen=True, slots=True)
class Blocked:
    """Lanes that could not come on at a place, since they waited in a server for another user."""

    at: Position
    lanes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """All choices of one run.

    Attributes:
        anchors: Choices that were not the natural one.
        faults: What was done to calls.
        in_flight: Places after which the run does not wait for pending replies.
        together: Places after which the next step shares the tick of the event loop.
        blocked: Lanes that waited in a server.
        picks: Which of a user's own tasks went on.
    """

    anchors: tuple[Anchor, ...] = ()
    faults: tuple[Fault, ...] = ()
    in_flight: tuple[Position, ...] = ()
    together: tuple[Position, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    picks: tuple[Pick, ...] = ()

    @property
    def preemptions(self) -> int:
        """Switches that are not the natural order."""
        return len(self.anchors) + len(self.picks)


NATURAL = Schedule()
"""Everybody goes on until the end of a call, or until there is nothing to go on with."""
