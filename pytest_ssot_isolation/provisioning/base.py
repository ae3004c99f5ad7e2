"""What every way to a real server has in common, and the order in which the ways are tried."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from pytest_ssot_isolation.errors import Attempt, IsolationError, NoServer
from pytest_ssot_isolation.provisioning.breaker import Breaker
from pytest_ssot_isolation.provisioning.secret_text import SecretText
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

AUTO: Final = "auto"
WAYS: Final = ("dsn", "container", "embedded")


@cache
def _id_of_process(pid: int) -> str:
    return f"{pid}-{secrets.token_hex(4)}"


def this_run() -> str:
    """Return the id that every worker of this test run shares."""
    return os.environ.get("PYTEST_XDIST_TESTRUNUID") or _id_of_process(os.getpid())


def this_worker() -> str:
    """Return this worker's own name: ``"gw0"`` and so on under xdist, ``"main"`` without it."""
    return os.environ.get("PYTEST_XDIST_WORKER") or "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which server a test run asks for.

    Attributes:
        engine: ``"postgres"`` or ``"clickhouse"``.
        spec: ``"auto"``, ``"embedded"``, ``"container"`` or a DSN; not shown, since it may hold a password.
        image: The container image; the provider's pinned one when None.
        version: The major version asked for, such as ``"18"``; any supported one when None.
        run_id: Shared by all workers of one run, and by nobody else.
        worker: This worker's own name within the run.
        timeouts: In seconds.
        folder: Where embedded servers keep their data; None for the fastest place with room.
    """

    engine: str
    spec: str = field(default=AUTO, repr=False)
    image: str | None = None
    version: str | None = None
    run_id: str = field(default_factory=this_run)
    worker: str = field(default_factory=this_worker)
    timeouts: DatabaseTimeoutConfig = field(default_factory=DatabaseTimeoutConfig)
    folder: Path | None = None

    @property
    def dsn(self) -> SecretText | None:
        """The DSN that was given, or None."""
        return None if self.spec in (AUTO, *WAYS) else SecretText(self.spec)

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways to try, in order."""
        if self.dsn is not None:
            return ("dsn",)
        return WAYS if self.spec == AUTO else (self.spec,)


class Server(Protocol):
    """A running server that this run may use."""

    @property
    def engine(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def way(self) -> str: ...

    def close(self) -> None:
        """Let go of the server; the last one out stops what this run started."""


ServerT_co = TypeVar("ServerT_co", bound=Server, covariant=True)


class Provider(Protocol, Generic[ServerT_co]):
    """One way to one engine."""

    @property
    def way(self) -> str: ...

    def why_not(self, wanted: Wanted) -> str | None:
        """Return why this way cannot be gone here, in one line with no password in it, or None. Be quick."""

    def start(self, wanted: Wanted) -> ServerT_co:
        """Reach or start the server, or raise an ``IsolationError`` that says what, why and what to do."""


def obtain(
    wanted: Wanted, providers: Sequence[Provider[ServerT_co]]
) -> tuple[ServerT_co, tuple[Attempt, ...]]:
    """Return the first server to be had, and why the ways before it were passed over.

    Args:
        wanted: What the run asks for; its ``spec`` says which ways come into question.
        providers: One for each way, in any order.

    Returns:
        The server, and one attempt for each way that was passed over.

    Raises:
        NoServer: No way could be gone; the text lists each with its reason.
        ServerGivenUp: The server failed three times in this run; told at once, with the first cause.
        IsolationError: The one way asked for was gone, and failed.
    """
    breaker = Breaker.of(wanted.run_id, f"{wanted.engine} {wanted.spec} {wanted.image} {wanted.version}")
    breaker.check(wanted.engine)
    by_way = {provider.way: provider for provider in providers}
    passed: list[Attempt] = []
    failure: IsolationError | None = None
    for way in wanted.ways:
        provider = by_way.get(way)
        if provider is None:
            passed.append(Attempt(way, f"there is no such way to {wanted.engine}"))
            continue
        if reason := provider.why_not(wanted):
            passed.append(Attempt(way, reason))
            continue
        try:
            server = provider.start(wanted)
        except IsolationError as error:
            failure = error
            passed.append(Attempt(way, str(error)))
            continue
        breaker.succeeded()
        return server, tuple(passed)
    told = failure if failure is not None and len(wanted.ways) == 1 else NoServer.after(wanted.engine, passed)
    breaker.failed(told)
    raise told
