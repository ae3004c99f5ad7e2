"""Every exception of the package, each with what happened, why, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_ssot_isolation.model.report import Report


class IsolationError(Exception):
    """The base of everything that this package raises on purpose."""


class SurfaceError(IsolationError, ValueError):
    """A surface, an operation or a world cannot be used as it was written."""


class Refused(IsolationError):
    """Raised by ``Surface.open`` where the application does not accept such an id; another is drawn."""


class ReplayMismatch(IsolationError):
    """A recorded example did not run as it was recorded."""

    @classmethod
    def at_step(
        cls,
        recorded: tuple[tuple[int, int], ...],
        ran: tuple[tuple[int, int], ...],
        *,
        in_flight: bool = False,
    ) -> ReplayMismatch:
        """The error for two traces that part.

        Args:
            recorded: User and task of each step of the record.
            ran: Those of today.
            in_flight: Whether requests of several users were under way together in the record.
        """
        pairs = zip(recorded, ran, strict=False)
        step = next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(recorded), len(ran)))

        def told(trace: tuple[tuple[int, int], ...]) -> str:
            if step >= len(trace):
                return "the end"
            user, task = trace[step]
            who = {-1: "the application", -2: "time"}.get(user, f"user {user}")
            return who if user == -2 else f"{who}, task {task}"

        chance = (
            "\nRequests of several users were under way together when it was recorded, and a server that is no part "
            "of this process takes them up in an order of its own: try it again a few times first."
            if in_flight
            else ""
        )
        return cls(
            f"The example did not run as it was recorded: at step {step} it was {told(recorded)}, now it is "
            f"{told(ran)}.\nTo fix this, replay it with the code it was recorded with, or run the check anew: "
            f"the application takes other steps today.{chance}"
        )


class MutationUnusable(IsolationError, ValueError):
    """Guards of the application cannot be weakened here; the text says what is missing."""

    @classmethod
    def without_sqlglot(cls) -> MutationUnusable:
        return cls(
            "mutate='drop_where' and mutate='set_local' read the application's SQL with sqlglot, which is not "
            'installed.\nTo fix this, install it: pip install "pytest-ssot-isolation[mutate]", or name other guards.'
        )


class LeakFound(AssertionError, IsolationError):
    """One user saw, changed or disturbed another's things.

    Attributes:
        report: What was found, with the minimal history.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


class InconclusiveCheck(AssertionError, IsolationError):
    """Nothing can be said: the check saw too little for either verdict.

    Attributes:
        report: What ran, and what was missing.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


class InvalidContext(IsolationError, ValueError):
    """A user context was given an id or a role that cannot tell one user from another."""


class MissingContext(IsolationError, ValueError):
    """A user's context was asked for where nobody's code runs."""


class CutShort(IsolationError):
    """A run could not be brought to its end; the application's doing, and part of its history.

    Attributes:
        kind: ``"deadlock"``, ``"stuck"`` or ``"busy"``.
        users: Indices of the users whose calls could not end.
    """

    kind = "stuck"

    def __init__(self, message: str, users: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.users = users


class Deadlock(CutShort):
    """Every task waits for another one."""

    kind = "deadlock"

    @classmethod
    def of(cls, waiting: str, users: tuple[int, ...]) -> Deadlock:
        """The error for tasks that wait for each other."""
        return cls(f"Deadlock: no task can go on, and nothing outside is due.\n{waiting}", users)


class Stuck(CutShort):
    """Nothing moved for longer than the patience of the run."""

    kind = "stuck"

    @classmethod
    def waiting(cls, seconds: float, waiting: str, users: tuple[int, ...]) -> Stuck:
        """The error for a wait that nobody ended."""
        return cls(f"Stuck: nothing came for {seconds:.1f} s.\n{waiting}", users)

    @classmethod
    def after_steps(cls, steps: int, waiting: str, users: tuple[int, ...]) -> Stuck:
        """The error for a run that never ends."""
        return cls(f"Stuck: the calls had not ended after {steps:,} steps.\n{waiting}", users)


class Busy(CutShort):
    """A step burned the processor without an await."""

    kind = "busy"


class BusyStep(BaseException):
    """Raised into a step that burns the processor without an await, to end it.

    Attributes:
        where: The stack of the step; on the class, since it is raised by its type from another thread.
    """

    where = ""


class InvalidTimeout(IsolationError, ValueError):
    """A time-out is unknown, or not a number of seconds above zero."""


class Attempt(NamedTuple):  # A dataclass would take a supervisor, for which a run waits, longer to load.
    """One way to a server that was tried, and why it was passed over."""

    way: str
    reason: str


class ServerError(IsolationError):
    """A database server, or a database in it, cannot be used."""


class NoServer(ServerError):
    """No way led to a server."""

    @classmethod
    def after(cls, engine: str, tried: Sequence[Attempt]) -> NoServer:
        """Return the error that lists each way tried, and what to do."""
        ways = "\n".join(f"  - {attempt.way}: {indent(attempt.reason, ' ' * 4).strip()}" for attempt in tried)
        return cls(
            f"No {engine} server could be reached or started.\n"
            f"Tried, in order:\n{ways}\n"
            "To fix this, do one of:\n"
            f"  - use a running server: --ssot-{engine}=DSN\n"
            "  - install an embedded one: pip install 'pytest-ssot-isolation[embedded]'\n"
            "  - start Docker, for a container"
        )


class ServerGivenUp(ServerError):
    """A server failed so often in this run that it is not tried again."""


class ServerFailed(ServerError):
    """A server did not start, or died."""


class NotATestDatabase(ServerError):
    """A DSN leads to a database that nobody marked as one that tests may write to."""


class DatabaseUnusable(ServerError):
    """A database could not be made, filled, reset or reached."""


class InvalidSecret(IsolationError, ValueError):
    """A canary cannot be made in the shape that was asked for."""

    @classmethod
    def unknown_kind(cls, kind: object, known: Sequence[str]) -> InvalidSecret:
        """No canary of this kind exists."""
        return cls(
            f"There is no secret of kind {kind!r}: a secret must be told again wherever it turns up.\n"
            f"To fix this, use one of {', '.join(known)} (types or names), "
            "or put a str into text: secrets(wrap='...{}...')."
        )

    @classmethod
    def does_not_fit(cls, kind: str, option: str, takes: Sequence[str]) -> InvalidSecret:
        """The kind has no such option."""
        return cls(
            f"A secret of kind {kind} takes no {option}.\n"
            f"To fix this, leave {option} out; {kind} takes {' and '.join(takes) or 'no shape at all'}."
        )

    @classmethod
    def bad_value(cls, kind: str, option: str, value: object, why: str) -> InvalidSecret:
        """The option's value makes no valid secret."""
        return cls(
            f"A secret of kind {kind} cannot have {option}={value!r}: {why}.\nTo fix this, change {option}."
        )

    @classmethod
    def too_short(cls, kind: str, max_length: int, around: int, least: int) -> InvalidSecret:
        """The token does not fit, not even cut."""
        return cls(
            f"A secret of kind {kind} with max_length={max_length} leaves "
            f"{max(max_length - around, 0)} characters for the secret itself; "
            f"below {least} no user can be told from another.\n"
            f"To fix this, use max_length={around + least} or more "
            f"(from {around + 12} on it is told for sure), "
            "a shorter wrap, or keys() where the field need not be secret."
        )

    @classmethod
    def out_of_range(cls, user: int, slot: int, users: int, slots: int) -> InvalidSecret:
        """The numbers do not fit into a canary."""
        return cls(
            f"No canary can be made for user {user}, slot {slot}: a mint tells {users:,} users and {slots:,} "
            "secrets of each apart.\n"
            "To fix this, number both from 0 and go on with a new mint (another key) when they are used up."
        )


class EngineForked(IsolationError):
    """chDB cannot be used in a process that was forked from one that had loaded it."""

    @classmethod
    def in_child(cls) -> EngineForked:
        return cls(
            "ClickHouse's embedded engine (chDB) was loaded before this process was forked from its parent, and "
            "would hang in the child.\n"
            "To fix this, do one of:\n"
            "  - run these tests without forking (no --forked, no multiprocessing start method 'fork')\n"
            "  - start children anew: multiprocessing.get_context('spawn'), or subprocess\n"
            "  - use a server, which any process can reach: --ssot-clickhouse=container or --ssot-clickhouse=DSN"
        )


class EngineInUse(IsolationError):
    """chDB would have to open anew, and an open client keeps it as it is."""

    @classmethod
    def by_clients(cls) -> EngineInUse:
        return cls(
            "A table is to be protected that ClickHouse's embedded engine (chDB) has not seen protected before. "
            "The engine reads row policies only when it opens, and a client that is still open keeps it open.\n"
            "To fix this, do one of:\n"
            "  - name the table in the fixture parameter protect= of the first database, before any client opens\n"
            "  - close the clients of wider scope, or open them after this\n"
            "  - use a server: --ssot-clickhouse=container or --ssot-clickhouse=DSN"
        )


class ProtectionRefused(IsolationError):
    """A table cannot be protected like that: too late, or by a second column that would take protection away."""

    @classmethod
    def after_handing_out(cls, table: str, column: str) -> ProtectionRefused:
        return cls(
            f"protect({table!r}, {column!r}) came after a DSN or a client of this database was handed out; on the "
            "embedded engine (chDB) that is too late, since the database moves to where the policy is in force.\n"
            "To fix this, do one of:\n"
            f"  - pass it to the fixture: clickhouse_database(protect={{{table!r}: {column!r}}})\n"
            "  - call protect() before .dsn, .connect() and .connect_as()\n"
            "  - use a server: --ssot-clickhouse=container or --ssot-clickhouse=DSN"
        )

    @classmethod
    def by_two_columns(cls, table: str, columns: Sequence[str]) -> ProtectionRefused:
        return cls(
            f"The table {table!r} is protected by {' and by '.join(map(repr, columns))}. ClickHouse joins row "
            "policies by OR, so a row would be shown to whoever is its tenant by either column.\n"
            "To fix this, do one of:\n"
            f"  - protect it by one column: protect={{{table!r}: {columns[0]!r}}}\n"
            "  - write a policy of your own, AS RESTRICTIVE, in the schema (on a server)"
        )


class AuditError(IsolationError):
    """The source audit cannot be carried out as it was configured."""


class BadKnownFindings(IsolationError):
    """The file of accepted findings cannot be used."""

    @classmethod
    def because(cls, path: Path, why: str) -> BadKnownFindings:
        return cls(
            f"The accepted findings in {path} cannot be used: {why}.\n"
            "To fix this, write each as in:\n"
            "  [[finding]]\n"
            '  key = "canary:read:result:body"\n'
            '  reason = "public until the new search is in"\n'
            "  expires = 2030-01-31"
        )


class BadExtension(SurfaceError):
    """What another plugin added through our hooks cannot be used."""


class DemoUnusable(IsolationError):
    """The demo cannot run here; the text says what is missing and how to get it."""


class WebSocketClosed(IsolationError):
    """A WebSocket cannot be used any more, or was never opened.

    Attributes:
        code: The code with which it was closed; None where it was refused.
        status: The status with which it was refused; None where it was open.
    """

    code: int | None = None
    status: int | None = None

    @classmethod
    def refused(cls, path: str, status: int) -> WebSocketClosed:
        error = cls(f"The WebSocket at {path} was refused with status {status}.")
        error.status = status
        return error

    @classmethod
    def by_server(cls, path: str, code: int, reason: str) -> WebSocketClosed:
        why = f": {reason}" if reason else ", and no reason was given"
        error = cls(f"The WebSocket at {path} was closed by the application with code {code}{why}")
        error.code = code
        return error

    @classmethod
    def by_us(cls, path: str) -> WebSocketClosed:
        error = cls(
            f"The WebSocket at {path} is closed.\nTo fix this, open another: await self.websocket(...)."
        )
        error.code = 1000
        return error
