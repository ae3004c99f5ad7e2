"""An empty ClickHouse database of a test's own, the same in each way of having a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

from pytest_ssot_isolation.errors import Attempt, ProtectionRefused
from pytest_ssot_isolation.provisioning.clickhouse.capabilities import REMEDIES, is_there
from pytest_ssot_isolation.provisioning.clickhouse.policies import Protections, checked
from pytest_ssot_isolation.provisioning.clickhouse.sql import identifier, literal, statements

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

Schema = str | Path | Iterable[str | Path] | Callable[[str], object] | None
"""SQL, a file of SQL, a list of them, or a callable that is given the DSN (a migration tool)."""

Protect = Mapping[str, str] | Iterable[tuple[str, str]]
"""Tables and their tenant columns."""


class Backend(Protocol):
    """What each way of having ClickHouse supplies."""

    @property
    def way(self) -> str:
        """``dsn``, ``container`` or ``embedded``."""

    @property
    def version(self) -> str:
        """The server's version."""

    def dsn(self, database: str) -> str:
        """Return a DSN for ``clickhouse_connect.get_client``."""

    def connect(self, database: str, **options: Any) -> Client:
        """Open a client."""

    def connect_as(self, database: str, tenant: str, **options: Any) -> Client:
        """Open a client for one tenant."""

    def execute(self, statement: str, database: str | None = None) -> None:
        """Run a statement as the owner."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query as the owner."""

    def create(self, protections: Protections) -> str:
        """Create an empty database and return its name."""

    def drop(self, name: str) -> None:
        """Drop a database and all that came with it."""

    def protect(self, name: str, protections: Protections) -> str:
        """Put protections in force and return the database's name from now on."""

    def release(self) -> None:
        """Let go of the server."""


class UserContext(Protocol):
    """As much of a user's context as a database needs to know."""

    @property
    def user_id(self) -> str:
        """The principal."""

    @property
    def tenant_id(self) -> str | None:
        """The tenant, where the application has tenants."""


class ClickhouseServer:
    """A running ClickHouse that this run may use.

    Attributes:
        engine: Always ``clickhouse``.
        passed: Why each way before this one was passed over.
        notes: What else the header of the run should say.
    """

    engine: Final = "clickhouse"

    def __init__(self, backend: Backend) -> None:
        self.passed: tuple[Attempt, ...] = ()
        self.notes: tuple[str, ...] = ()
        self._backend = backend
        self._tried: dict[str, bool] = {}

    @property
    def way(self) -> str:
        """``dsn``, ``container`` or ``embedded``."""
        return self._backend.way

    @property
    def version(self) -> str:
        """The server's version, such as ``26.9.2.1``."""
        return self._backend.version

    @property
    def capabilities(self) -> frozenset[str]:
        """What this server can do, found by trying it; see `ClickhouseDatabase.capabilities`."""
        return frozenset(name for name in REMEDIES if self._has(name))

    def new_database(self, schema: Schema = None, *, protect: Protect = ()) -> ClickhouseDatabase:
        """Create an empty database.

        Args:
            schema: What is run in it first; by default nothing.
            protect: Tables (by name) and the column that holds their rows' tenant; each gets a row policy.
                The tables need not exist yet.

        Returns:
            The database, dropped by its ``close()`` or at the end of ``with``.
        """
        protections = checked(frozenset(protect.items() if isinstance(protect, Mapping) else protect))
        if protections:
            self.require("row_policy")
        database = ClickhouseDatabase(self, self._backend, self._backend.create(protections), protections)
        try:
            database.load(schema)
        except BaseException:
            database.close()
            raise
        return database

    def require(self, *capabilities: str) -> None:
        """Skip the running test, loudly, unless the server has each of these capabilities."""
        __tracebackhide__ = True  # The skip is told at the test's own line.
        if unknown := sorted(set(capabilities) - REMEDIES.keys()):
            raise ValueError(f"unknown capabilities {unknown}; there are {sorted(REMEDIES)}")
        if missing := sorted(name for name in set(capabilities) if not self._has(name)):
            import pytest

            pytest.skip(
                f"ClickHouse {self.version} ({self.way}) lacks {', '.join(missing)}. To get it: "
                + "; ".join(f"{name}: {REMEDIES[name]}" for name in missing)
            )

    def close(self) -> None:
        """Let go of the server; what this run started is stopped with the last worker that uses it."""
        self._backend.release()

    def _has(self, capability: str) -> bool:
        if capability not in self._tried:
            self._tried[capability] = is_there(capability, self._backend)
        return self._tried[capability]

    def __enter__(self) -> ClickhouseServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ClickhouseDatabase:
    """An empty database that belongs to one test.

    Of a protected table a query sees the rows whose tenant it names in the setting ``log_comment``, and
    without that setting none; `connect_as` names it for every query of a client.

    Attributes:
        server: The server it is in.
        name: The database's name; `protect` may change it as long as nothing was handed out.
    """

    def __init__(
        self, server: ClickhouseServer, backend: Backend, name: str, protections: Protections = frozenset()
    ) -> None:
        self.server = server
        self.name = name
        self._backend = backend
        self._protections = protections
        self._clients: list[Client] = []
        self._handed_out = False
        self._is_closed = False

    @property
    def dsn(self) -> str:
        """A DSN for ``clickhouse_connect.get_client(dsn=...)``."""
        self._handed_out = True
        return self._backend.dsn(self.name)

    @property
    def capabilities(self) -> frozenset[str]:
        """Those of users, row_policy, quota, query_cache, sessions, http, async that the server has."""
        return self.server.capabilities

    def require(self, *capabilities: str) -> None:
        """Skip the running test, and say how to run it, unless the server has all these capabilities."""
        __tracebackhide__ = True
        self.server.require(*capabilities)

    def connect(self, **options: Any) -> Client:
        """Open a client in this database, closed with it.

        Args:
            **options: Those of ``clickhouse_connect.get_client``.
        """
        return self._keep(self._backend.connect(self.name, **options))

    def connect_as(self, context: UserContext, **options: Any) -> Client:
        """Open a client that acts for one user: of protected tables it sees the rows of the user's tenant.

        On a server with users it is a login of its own that cannot name another tenant; elsewhere the tenant
        is a setting of the client. A user without a tenant is a tenant of one, by the user's own id.
        """
        tenant = context.user_id if context.tenant_id is None else context.tenant_id
        return self._keep(self._backend.connect_as(self.name, tenant, **options))

    def apply(self, script: str | Path) -> None:
        """Run a script of SQL in this database as its owner.

        Args:
            script: SQL, or the path of a file of it (a `Path`, or a text that ends in ``.sql``).
        """
        if isinstance(script, Path) or script.endswith(".sql"):
            script = Path(script).read_text(encoding="utf-8")
        for statement in statements(script):
            self._backend.execute(statement, self.name)

    def load(self, schema: Schema) -> None:
        """Run a schema in each of its forms."""
        if schema is None:
            return
        if callable(schema):
            schema(self.dsn)
            return
        for script in [schema] if isinstance(schema, str | Path) else schema:
            self.apply(script)

    def protect(self, table: str, column: str) -> None:
        """Let each query see only the rows of a table whose tenant it acts for.

        On chDB the engine opens anew for a table it has not seen protected before (50 to 100 ms; at most some
        twenty times in a process, then the test is skipped).

        Args:
            table: The table, by name; it need not exist yet.
            column: Its column with the tenant.

        Raises:
            ProtectionRefused: The table is protected by another column; or, on chDB, after `dsn` or a client
                was handed out.
            EngineInUse: On chDB, while a client of another database is open.
        """
        self.require("row_policy")
        if self._handed_out and self._backend.way == "embedded":
            raise ProtectionRefused.after_handing_out(table, column)
        protections = checked(self._protections | {(table, column)})
        if protections != self._protections:
            self.name = self._backend.protect(self.name, protections)
            self._protections = protections

    def reset(self) -> None:
        """Empty every table; the tables themselves, and clients, stay."""
        filled = self._backend.rows(
            f"SELECT name FROM system.tables WHERE database = {literal(self.name)} AND NOT is_temporary "
            "AND (total_rows > 0 OR total_rows IS NULL) AND engine NOT LIKE '%View' "
            "AND engine NOT IN ('Dictionary', 'Distributed', 'Merge', 'Null', 'Kafka')"
        )
        for (table,) in filled:
            self._backend.execute(f"TRUNCATE TABLE {identifier(table)}", self.name)

    async def reset_async(self) -> None:
        """Empty every table without holding up the event loop."""
        await asyncio.to_thread(self.reset)

    def close(self) -> None:
        """Close every client handed out and drop the database. A second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        for client in self._clients:
            client.close()
        self._backend.drop(self.name)

    def __enter__(self) -> ClickhouseDatabase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _keep(self, client: Client) -> Client:
        self._handed_out = True
        self._clients.append(client)
        return client
