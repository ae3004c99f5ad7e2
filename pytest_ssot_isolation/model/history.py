"""All that was seen in one run of a program, and nothing that was not."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from pytest_ssot_isolation.model.quick import quick
from pytest_ssot_isolation.model.schedule import APP, NATURAL, Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_ssot_isolation.model.canary import Canary

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy")


class Outcome(Enum):
    """How an operation ended.

    A call that was cut off is ``UNKNOWN``: it may have taken effect. Were it ``FAILED``, a later,
    lawful read of what it wrote would look like a leak.
    """

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Somebody who acts in a run.

    Attributes:
        index: Number within the example, from 0.
        name: A person's name for reports.
        user_id: Id of this run.
        tenant_id: Tenant of this run.
        family: What makes the ids look alike, in words.
        surface: Name of the surface class.
        serial: Number within the check, told by the principal's canaries.
    """

    index: int
    name: str
    user_id: str = ""
    tenant_id: str = ""
    family: str = ""
    surface: str = ""
    serial: int = 0


def name_of(index: int) -> str:
    """A person's name for the user with this number."""
    turn, place = divmod(index, len(NAMES))
    return NAMES[place] if not turn else f"{NAMES[place]}{turn + 1}"


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one principal saw, when one operation ended or something was pushed.

    Attributes:
        index: Place in the history, from 0, without gaps.
        user: Index of the principal who was looking.
        call: Id of the call, -1 outside calls (sign-in, push).
        operation: Name of the operation; ``"open"`` for signing in.
        channel: ``"result"``, ``"log"``, ``"websocket"``, ...
        outcome: How the operation ended; ``OK`` for what was pushed or logged.
        seen: All that reached the principal, in the seen form.
        began: Tick at which the call began; ticks count begins and ends of the whole run.
        ended: Tick at which it ended.
    """

    index: int
    user: int
    call: int
    operation: str
    channel: str
    outcome: Outcome
    seen: object
    began: int = 0
    ended: int = 0


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A canary that was carried into the application.

    Attributes:
        canary: The secret.
        owner: Index of the user who owns it.
        call: Id of the call that carried it in.
        argument: Name of the argument that held it.
        readers: Indices of users to whom it is addressed.
        public: Whether the call published it.
    """

    canary: Canary
    owner: int
    call: int
    argument: str
    readers: frozenset[int] = frozenset()
    public: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a run was cut short.

    Attributes:
        kind: ``"deadlock"``, ``"stuck"``, ``"busy"``, ``"escaped"`` or ``"leftover"``.
        text: What was seen, each waiting task with its place in the code.
        users: Indices of the users whose calls could not end.
    """

    kind: str
    text: str
    users: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """What somebody met where the one before had left it.

    Attributes:
        kind: ``"setting"``, ``"role"``, ``"search_path"``, ``"temporary table"``, ``"prepared statement"``,
            ``"channel"``, ``"advisory lock"``, ``"transaction"``, ``"cursor"``, ``"session"`` or
            ``"context variable"``.
        name: Which of its kind.
        value: What it held, in the seen form.
        place: What carried it, in words, such as ``"an asyncpg connection"``.
        left_by: Index of the user who left it; None where that is not known.
        left_in: Id of that user's call.
        found_by: Index of the user who met it.
        found_in: Id of the call in which it was met.
    """

    kind: str
    name: str
    value: object
    place: str
    left_by: int | None
    left_in: int = -1
    found_by: int
    found_in: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class InCommon:
    """What several users held at once.

    Attributes:
        kind: Name of its type.
        users: Indices of those who held it.
        path: The way to it from the surface of the first; empty for a connection.
    """

    kind: str
    users: tuple[int, ...]
    path: str = ""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A call with the values that it was made with.

    Attributes:
        id: Id of the call.
        user: Index of the caller.
        operation: Name of the operation.
        arguments: Name and value, in the order of the declaration.
        references: User whose result an argument refers to, by the argument's name.
        substituted: Names of arguments for which a value was put in that nobody's call had returned.
    """

    id: int
    user: int
    operation: str
    arguments: tuple[tuple[str, object], ...]
    references: tuple[tuple[str, int], ...] = ()
    substituted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One run of one program.

    Attributes:
        principals: Who took part, by index.
        observations: All that was seen, in the order in which it was seen.
        planted: Canaries carried in, by serial number of the owner and slot.
        bound: Calls that began, by id, with their values.
        lawful: Pairs (viewer, owner) in which the viewer may see what is the owner's; nobody's
            own pair is listed.
        may_change: Pairs (actor, owner) in which the actor may change what is the owner's.
        trace: Steps in the order in which they ran: user and lane.
        schedule: The choices as they were made.
        trouble: Why the run was cut short; None where it ended.
        example: Number of the example within the check.
        skipped: Ids of calls that were left out.
        resumptions: How often each call's own task was resumed, by id of the call.
        notes: Facts for the reader of the report.
        sites: For each step its user and the place in the code from which it went on, where that
            was asked for.
        path: For each step its user, that user's call, and the number of the user's task.
        leftovers: What users met where others had left it, in the order in which it was met.
        in_common: What several users held at once, where that was asked for.
        moments: When each call began, by id, in virtual seconds since the first of all.
    """

    principals: tuple[Principal, ...]
    observations: tuple[Observation, ...] = ()
    planted: Mapping[tuple[int, int], Planted] = field(default_factory=dict)
    bound: Mapping[int, Bound] = field(default_factory=dict)
    lawful: frozenset[tuple[int, int]] = frozenset()
    may_change: frozenset[tuple[int, int]] = frozenset()
    trace: tuple[tuple[int, int], ...] = ()
    schedule: Schedule = NATURAL
    trouble: Trouble | None = None
    example: int = 0
    skipped: frozenset[int] = frozenset()
    resumptions: Mapping[int, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sites: tuple[tuple[int, str], ...] = ()
    path: tuple[tuple[int, int, int], ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    in_common: tuple[InCommon, ...] = ()
    moments: Mapping[int, float] = field(default_factory=dict)

    def may_see(self, viewer: int, owner: int) -> bool:
        """Whether the viewer may see what is the owner's."""
        return viewer == owner or (viewer, owner) in self.lawful

    def sees_all(self, viewer: int) -> bool:
        """Whether nobody's things are out of the viewer's sight."""
        return all(self.may_see(viewer, other.index) for other in self.principals)

    @property
    def has_workers(self) -> bool:
        """Whether a task of the application's own went on during the run, such as a worker or a listener."""
        return any(user == APP for user, _, _ in self.path)

    def of_call(self, call: int) -> Observation | None:
        """The answer of a call, None where it never ended."""
        return next((o for o in self.observations if o.call == call and o.channel == "result"), None)
