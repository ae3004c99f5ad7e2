"""One test's own database: what the ``postgres`` fixture gives."""

from __future__ import annotations

import weakref
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pytest_ssot_isolation.errors import DatabaseUnusable
from pytest_ssot_isolation.provisioning.metrics import ConnectionMetrics
from pytest_ssot_isolation.provisioning.secret_text import SecretText

if TYPE_CHECKING:
    import asyncpg

    from pytest_ssot_isolation.provisioning.postgres.address import Address
    from pytest_ssot_isolation.provisioning.postgres.pool import MeteredPool
    from pytest_ssot_isolation.provisioning.postgres.sessions import Leftover
    from pytest_ssot_isolation.provisioning.postgres.slot import Slot
    from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

T = TypeVar("T")


class ActsFor(Protocol):
    """Who acts: a user, and a tenant where there is one."""

    @property
    def user_id(self) -> str: ...

    @property
    def tenant_id(self) -> str | None: ...


class Keeper(Protocol):
    """As much of a server as its databases need: does their work, and takes them back."""

    @property
    def engine(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def way(self) -> str: ...
    @property
    def timeouts(self) -> DatabaseTimeoutConfig: ...

    def run(self, work: Coroutine[Any, Any, T]) -> T: ...
    async def run_async(self, work: Coroutine[Any, Any, T]) -> T: ...
    async def give_back(self, slot: Slot) -> tuple[Leftover, ...]: ...


class PostgresDatabase:
    """An empty database of one test's own.

    Attributes:
        server: The server that it is in.
        metrics: What the pools made here did.
        leftovers: The sessions that were ended at the last ``close``.
    """

    def __init__(self, server: Keeper, slot: Slot) -> None:
        self.server = server
        self.metrics = ConnectionMetrics()
        self.leftovers: tuple[Leftover, ...] = ()
        self._slot: Slot | None = slot
        self._pools: weakref.WeakSet[MeteredPool] = weakref.WeakSet()
        self._users: dict[str, Address] = {}

    def __repr__(self) -> str:
        return f"<PostgresDatabase {self._slot.name if self._slot else 'closed'}>"

    @property
    def name(self) -> str:
        """The database's name."""
        return self._open.name

    database = name

    @property
    def dsn(self) -> str:
        """For the application: a role that owns nothing, is no superuser and cannot bypass row security."""
        return self._app.url()

    @property
    def owner_dsn(self) -> str:
        """For migrations: the role that owns the schema."""
        return self._open.owner.url()

    @property
    def host(self) -> str:
        """Where the server listens."""
        return self._app.host

    @property
    def port(self) -> int:
        """Where the server listens."""
        return self._app.port

    @property
    def user(self) -> str:
        """The application's role."""
        return self._app.user

    @property
    def password(self) -> str:
        """The application role's password."""
        return SecretText(self._app.password)

    def url(self, driver: str | None = "asyncpg") -> str:
        """Return the application's DSN as SQLAlchemy writes it: ``postgresql+driver://…``."""
        return self._app.url(driver)

    def apply(self, sql_or_path: str | Path) -> None:
        """Run a script as the owner.

        Args:
            sql_or_path: Statements, or a file of them.

        Raises:
            DatabaseUnusable: The file cannot be read, or a statement failed; the text says where.
        """
        __tracebackhide__ = True
        self.server.run(self._open.apply(sql_or_path))

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows that a question of the owner's gives.

        Args:
            query: One statement.

        Raises:
            DatabaseUnusable: It failed.
        """
        return self.server.run(self._open.ask(query))

    async def apply_async(self, sql_or_path: str | Path) -> None:
        """Do what ``apply`` does, without holding up the caller's loop."""
        __tracebackhide__ = True
        await self.server.run_async(self._open.apply(sql_or_path))

    def pool(self, **options: Any) -> asyncpg.Pool:
        """Return an asyncpg pool for the application, to be awaited or entered, bound to the running loop.

        It is closed with the test, and counts into ``metrics``.

        Args:
            **options: As ``asyncpg.create_pool`` takes them; ``dsn=`` for another role's.
        """
        from pytest_ssot_isolation.provisioning.postgres.pool import MeteredPool

        close_within = self.server.timeouts.stop
        options.setdefault("timeout", self.server.timeouts.connect)
        pool = MeteredPool(options.pop("dsn", self.dsn), self.metrics, close_within, **options)
        self._pools.add(pool)
        return pool

    def dsn_for(
        self, context: ActsFor, *, user_setting: str = "app.user_id", tenant_setting: str = "app.tenant_id"
    ) -> str:
        """Return the DSN of a login role for one user, made when it is first asked for.

        The role has what the application's role has, and carries who it acts for in settings that row
        policies read by ``current_setting``. It is dropped with the database.

        Args:
            context: Who acts: anything with a ``user_id`` and a ``tenant_id``.
            user_setting: The setting that holds the user's id.
            tenant_setting: The setting that holds the tenant's id, where there is one.
        """
        settings = {user_setting: context.user_id}
        if context.tenant_id is not None:
            settings[tenant_setting] = context.tenant_id
        key = repr(sorted(settings.items()))
        if key not in self._users:
            self._users[key] = self.server.run(self._open.add_user(key, settings))
        return self._users[key].url()

    def reset(self) -> None:
        """Bring the rows and sequences back to what the schema left; the structure stays as it is now.

        Raises:
            DatabaseUnusable: It could not be done; the text says why.
        """
        self.server.run(self._open.reset())

    async def reset_async(self) -> None:
        """Do what ``reset`` does, without holding up the caller's loop."""
        await self.server.run_async(self._open.reset())

    def blocked_pids(self) -> frozenset[int]:
        """Return the server processes of those sessions in this database that wait for another's lock.

        May be called from any thread but that of a running pool's own work; has a connection of its own.
        """
        return self.server.run(self._open.blocked())

    def end_session(self, port: int) -> None:
        """Wait until the session of a dropped connection is gone, and end it where it does not go by itself.

        A statement that had arrived is carried out first, unless it waits for another's lock. May be called
        from where ``blocked_pids`` may.

        Args:
            port: The connection's port on the client's side.
        """
        self.server.run(self._open.end_session(port))

    def close(self) -> None:
        """Close the pools, end and name leftover sessions, and give the database back to be used again."""
        if self._slot is None:
            return
        slot, self._slot = self._slot, None
        for pool in list(self._pools):
            pool.shut_from_outside()
        self._pools.clear()
        self._users.clear()
        self.leftovers = self.server.run(self.server.give_back(slot))

    def __enter__(self) -> PostgresDatabase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _open(self) -> Slot:
        if self._slot is None:
            raise DatabaseUnusable(
                "This database was given back when its test ended.\n"
                "Ask for the fixture in the test that uses it, or widen postgres_database(scope=…)."
            )
        return self._slot

    @property
    def _app(self) -> Address:
        return self._open.app
