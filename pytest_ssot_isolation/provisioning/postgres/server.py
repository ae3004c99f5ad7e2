"""A PostgreSQL server that this run may use, and the databases it hands to tests."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pytest_ssot_isolation.errors import Attempt, IsolationError, ServerFailed
from pytest_ssot_isolation.provisioning.breaker import Breaker
from pytest_ssot_isolation.provisioning.postgres import schema as schemas
from pytest_ssot_isolation.provisioning.postgres import strangers
from pytest_ssot_isolation.provisioning.postgres.address import Address
from pytest_ssot_isolation.provisioning.postgres.background import Background
from pytest_ssot_isolation.provisioning.postgres.database import PostgresDatabase
from pytest_ssot_isolation.provisioning.postgres.roles import Roles
from pytest_ssot_isolation.provisioning.postgres.schema import Schema
from pytest_ssot_isolation.provisioning.postgres.sessions import Leftover
from pytest_ssot_isolation.provisioning.postgres.slot import Slot, connect
from pytest_ssot_isolation.provisioning.postgres.templates import Template
from pytest_ssot_isolation.provisioning.postgres.trouble import Explained

if TYPE_CHECKING:
    from asyncpg import Connection

    from pytest_ssot_isolation.provisioning.base import Wanted
    from pytest_ssot_isolation.provisioning.lease import Lease

T = TypeVar("T")
USES: Final = 300  # Emptying by DELETE leaves dead rows behind: some 270 kB by then, for 20 rows a test.
_WORKERS_LOCK: Final = 0x55307150
_RUNS_LOCK: Final = 0x55307151


class PostgresServer:
    """A running server, and this worker's databases in it.

    Attributes:
        engine: ``"postgres"``.
        version: Such as ``"18.4"``.
        way: ``"dsn"``, ``"container"`` or ``"embedded"``.
        timeouts: Those in force, in seconds.
        passed_over: The ways tried before this one, and why each was left.
        notes: A few words for the header of the run.
    """

    engine: Final = "postgres"

    def __init__(
        self, *, admin_dsn: str, version: str, way: str, wanted: Wanted, share: Lease | None = None
    ) -> None:
        self.version = version
        self.way = way
        self.timeouts = wanted.timeouts
        self._admin = Address.parse(admin_dsn)
        self._wanted = wanted
        self._share = share
        self._breaker = Breaker.of(wanted.run_id, f"databases {self._admin}")
        self._explained = Explained(self._admin, version, way, share)
        self._background = Background()
        self.passed_over: tuple[Attempt, ...] = ()
        self.notes: tuple[str, ...] = ()
        self._templates: dict[str, Template] = {}
        self._slots: set[Slot] = set()  # All that there are, handed out or not.
        self._numbers = itertools.count()
        self._nonce = secrets.token_hex(3)  # A worker may give the server back and ask for it again.
        self._is_open = True
        self._connection: Connection | None = None
        self._talking = asyncio.Lock()
        try:
            self.run(self._begin())
        except BaseException:
            self._background.run(self._hang_up())
            self._let_go()
            raise
        atexit.register(self.close)

    def __repr__(self) -> str:
        return f"<PostgresServer {self.version} ({self.way}) at {self._admin.host}:{self._admin.port}>"

    def new_database(self, schema: Schema = None) -> PostgresDatabase:
        """Return an empty database of the caller's own, with the schema in it.

        Args:
            schema: A file, statements, a list of these in order, or a callable that is given the owner's
                DSN. It is loaded once in a run; rows that it puts in are there again for every test.

        Raises:
            DatabaseUnusable: The schema could not be loaded, or no database made.
            ServerFailed: The server is gone.
            ServerGivenUp: It was gone three times in this run.
        """
        self._breaker.check(self.engine)
        if not self._is_open:
            raise ServerFailed("The PostgreSQL server was given back; ask for the fixture again.")
        try:
            slot = self.run(self._hand_out(schema))
        except ServerFailed as error:
            self._breaker.failed(error)
            raise
        self._breaker.succeeded()
        return PostgresDatabase(self, slot)

    def close(self) -> None:
        """Give back this worker's share; the last one out ends what the run started."""
        if not self._is_open:
            return
        self._is_open = False
        atexit.unregister(self.close)
        try:
            with contextlib.suppress(IsolationError):
                self.run(self._end())
        finally:
            self._let_go()

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the package's own work on this server, and tell a lost server from a failed statement."""
        return self._background.run(self._explained.of(work))

    async def run_async(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what ``run`` does, awaited in the caller's loop."""
        return await self._background.run_async(self._explained.of(work))

    async def give_back(self, slot: Slot) -> tuple[Leftover, ...]:
        """Empty a database for the next test, or drop it when it is no longer what it was."""
        template = self._templates[slot.template]
        try:
            leftovers, is_same = await slot.retire()
        except BaseException:
            self._background.start(self._drop(slot))
            raise
        if is_same and slot.uses < USES:
            template.free.append(slot)
        else:
            self._background.start(self._drop(slot))
        return leftovers

    def _let_go(self) -> None:
        self._background.close()
        if self._share is not None:
            self._share.close()

    @contextlib.asynccontextmanager
    async def _talk(self) -> AsyncIterator[Connection]:
        """Take turns on the connection for making and dropping databases."""
        async with self._talking:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._admin, self.timeouts.connect)
            yield self._connection

    async def _begin(self) -> None:
        async with self._talk() as connection:
            is_superuser = await connection.fetchval(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
            )
            self._roles = Roles.of(
                self._wanted.run_id,
                self._admin,
                is_superuser=is_superuser,
                major=connection.get_server_version().major,
            )
            # Held as long as this connection: tells other runs that what has our prefix is in use.
            await connection.execute("SELECT pg_advisory_lock_shared($1, $2)", _RUNS_LOCK, self._roles.number)
            if self._share is None:
                await strangers.sweep(connection, _RUNS_LOCK)
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _WORKERS_LOCK)
                exists = "SELECT FROM pg_roles WHERE rolname = $1"
                if not await connection.fetch(exists, self._roles.app):
                    await connection.execute(self._roles.create_both)

    async def _hand_out(self, schema: Schema) -> Slot:
        template = self._template_for(schema)
        async with template.guard:
            if template.free:
                return template.free.pop()
            if template.spare is not None:
                spare, template.spare = template.spare, None
                slot = await spare
            else:
                slot = await self._clone(template)
        if template.spare is None:
            # One copy waits ready, for the test after one that changed the schema.
            template.spare = self._background.start(self._clone(template))
        return slot

    def _template_for(self, schema: Schema) -> Template:
        name = f"{self._roles.prefix}_t_{schemas.digest(schemas.key_of(schema))}"
        return self._templates.setdefault(name, Template(name, schema))

    async def _clone(self, template: Template) -> Slot:
        if not template.is_loaded:
            await self._load(template)
        name = f"{self._roles.prefix}_{self._wanted.worker}_{self._nonce}_{next(self._numbers)}"
        await self._create(name, template.name)
        slot = Slot(self._admin.at(name), self._roles, self.timeouts, template.name)
        self._slots.add(slot)
        template.known = await slot.learn(template.known)
        return slot

    async def _create(self, name: str, template: str) -> None:
        # A copy of files takes a third of the time of a copy through the log; older ones know no other.
        strategy = " STRATEGY FILE_COPY" if self._roles.major >= 15 else ""
        async with self._talk() as connection:
            await connection.execute(
                f'CREATE DATABASE "{name}" OWNER {self._roles.owner} TEMPLATE "{template}"{strategy}',
                timeout=self.timeouts.statement,
            )

    async def _load(self, template: Template) -> None:
        """Make the template, once for all workers; who comes later waits for it."""
        gate = await connect(self._admin, self.timeouts.connect)
        try:
            key = int(schemas.digest(template.name)[:7], 16)
            await gate.execute("SELECT pg_advisory_lock($1, $2)", _WORKERS_LOCK, key)
            found = await gate.fetchrow(
                "SELECT datallowconn FROM pg_database WHERE datname = $1", template.name
            )
            if found is not None and found["datallowconn"]:
                await self._drop_named(template.name)  # Whoever loaded it was stopped halfway.
                found = None
            if found is None:
                await self._create(template.name, "template1")
                slot = Slot(self._admin.at(template.name), self._roles, self.timeouts, template.name)
                try:
                    await self._fill(template, slot)
                except BaseException:
                    await self._drop_named(template.name)
                    raise
                # Somebody connected to a template would make each copy wait five seconds, and then fail.
                await gate.execute(f'ALTER DATABASE "{template.name}" ALLOW_CONNECTIONS false')
            template.is_loaded = True
        finally:
            await gate.close(timeout=self.timeouts.stop)

    async def _fill(self, template: Template, slot: Slot) -> None:
        owner = await connect(slot.owner, self.timeouts.connect)
        try:
            await owner.execute(self._roles.grants)
        finally:
            await owner.close(timeout=self.timeouts.stop)
        if callable(template.schema):
            await schemas.migrate(template.schema, slot.owner.url())
            await slot.end_sessions()
        elif template.schema is not None:
            for script in schemas.scripts_of(template.schema):
                await slot.apply(script)
        await slot.disconnect()

    async def _drop(self, slot: Slot) -> None:
        self._slots.discard(slot)
        await slot.disconnect()
        await self._drop_named(slot.name)

    async def _drop_named(self, name: str) -> None:
        async with self._talk() as connection:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _end(self) -> None:
        await self._background.settle()
        for slot in list(self._slots):
            # A server of the run's own is thrown away as a whole.
            await (slot.disconnect() if self._share is not None else self._drop(slot))
        if self._share is None:
            async with self._talk() as connection:
                await strangers.leave(connection, _RUNS_LOCK, self._roles)
        await self._hang_up()

    async def _hang_up(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            with contextlib.suppress(OSError, TimeoutError):
                await self._connection.close(timeout=self.timeouts.stop)
