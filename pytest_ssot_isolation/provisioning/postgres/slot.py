"""One database on the server, handed to one test after another: emptied, watched, compared with its start."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.errors import DatabaseUnusable
from pytest_ssot_isolation.provisioning.postgres import catalogue, sessions, structure
from pytest_ssot_isolation.provisioning.postgres.address import Address
from pytest_ssot_isolation.provisioning.postgres.schema import failure, read_script
from pytest_ssot_isolation.provisioning.postgres.sessions import Leftover

if TYPE_CHECKING:
    from asyncpg import Connection
    from asyncpg.prepared_stmt import PreparedStatement

    from pytest_ssot_isolation.provisioning.postgres.roles import Roles
    from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig


class Slot:
    """A database and the package's own connections to it. All methods run in the private loop.

    Attributes:
        name: The database's name.
        template: The name of the template that it is a copy of.
        uses: How many tests had it.
    """

    def __init__(self, admin: Address, roles: Roles, timeouts: DatabaseTimeoutConfig, template: str) -> None:
        self.name = admin.database
        self.template = template
        self.app = roles.app_in(admin)
        self.owner = roles.owner_in(admin)
        self.uses = 0
        self._admin = admin
        self._roles = roles
        self._timeouts = timeouts
        self._connection: Connection | None = None
        self._watch: Connection | None = None
        self._watching = asyncio.Lock()
        self._working = asyncio.Lock()
        self._own_pids: set[int] = set()
        self._users: list[str] = []
        self._fingerprint = ""
        self._writes: str | None = None  # To the catalogue, when the fingerprint was last found the same.
        self._at_once: PreparedStatement[Any] | None = None
        self._emptying: dict[str, catalogue.Emptying] = {}

    async def learn(self, known: tuple[str, dict[str, catalogue.Emptying]] | None) -> Any:
        """Look at the database as its schema left it, or take over what is known of its template."""
        connection = await self._connected()
        if known is None:
            fingerprint = await connection.fetchval(structure.FINGERPRINT)
            emptying = await catalogue.describe(
                connection, is_superuser=self._roles.is_superuser, as_left_by_schema=True
            )
            known = fingerprint, {fingerprint: emptying}
        self._fingerprint, self._emptying = known
        return known

    async def reset(self) -> None:
        """Empty the database, and leave its structure as it is now."""
        async with self._working:
            connection = await self._connected()
            await self._reset(connection, await connection.fetchval(structure.FINGERPRINT))

    async def _reset(self, connection: Connection, fingerprint: str, before: str = "") -> None:
        how = self._emptying.get(fingerprint)
        if how is None:
            left = self._emptying[self._fingerprint]
            how = await catalogue.describe(
                connection, is_superuser=self._roles.is_superuser, as_left_by_schema=False
            )
            now = await catalogue.tables(connection)
            how = catalogue.Emptying(how.script, {t: r for t, r in left.seeds.items() if t in now})
        await self._empty(connection, how, before)

    async def _empty(self, connection: Connection, how: catalogue.Emptying, before: str) -> None:
        import asyncpg

        for last in (False, True):
            waiting = asyncio.ensure_future(catalogue.empty(connection, how, self._timeouts.lock, before))
            try:
                blockers: set[int] = set()
                while not (await asyncio.wait({waiting}, timeout=self._timeouts.lock * 0.8))[0]:
                    blockers |= await self._blockers_of(connection)
                await waiting
            except asyncpg.LockNotAvailableError as error:
                if last:
                    raise DatabaseUnusable(
                        f"The database {self.name} could not be reset: {error}.\n"
                        "Another session holds a lock; close the application's connections before the reset."
                    ) from None
                # Whoever holds a lock between two runs forgot a transaction: equal starts matter more.
                await sessions.end(connection, sorted(blockers))
            except (asyncpg.PostgresConnectionError, asyncpg.CrashShutdownError, asyncpg.AdminShutdownError):
                raise
            except asyncpg.PostgresError as error:
                raise DatabaseUnusable(
                    f"The database {self.name} could not be reset: {error}.\n"
                    "If a rule of the schema stands in the way, empty it by your own `reset` instead."
                ) from error
            else:
                return

    async def _blockers_of(self, connection: Connection) -> frozenset[int]:
        async with self._watched() as watch:
            return await sessions.that_block(watch, connection.get_server_pid())

    async def blocked(self) -> frozenset[int]:
        """Return the sessions that wait for another's lock."""
        async with self._watched() as watch:
            return await sessions.that_wait(watch)

    async def end_session(self, port: int) -> None:
        """Wait until the session of a dropped connection is gone, and end it where it does not go by itself."""
        async with self._watched() as watch:
            await sessions.gone(watch, port, self._timeouts.lock)

    @contextlib.asynccontextmanager
    async def _watched(self) -> AsyncIterator[Connection]:
        async with self._watching:
            if self._watch is None or self._watch.is_closed():
                self._watch = await self._connect(self._admin)
                self._own_pids.add(self._watch.get_server_pid())
            yield self._watch

    async def apply(self, sql_or_path: str | Path) -> None:
        """Run a script as the owner."""
        import asyncpg

        __tracebackhide__ = True  # A script may hold a password; what failed in it is told by file and line.
        script, origin = read_script(sql_or_path)
        connection = await self._connect(self.owner)
        try:
            await asyncio.wait_for(connection.execute(script), self._timeouts.statement)
        except (asyncpg.PostgresConnectionError, asyncpg.CrashShutdownError, asyncpg.AdminShutdownError):
            raise  # The script is not to blame for a server that is gone.
        except asyncpg.PostgresError as error:
            raise DatabaseUnusable(failure(error, script, origin, self.name)) from None
        except TimeoutError:
            raise DatabaseUnusable(
                f"{origin} did not end within {self._timeouts.statement:g} s in the database {self.name}.\n"
                "Make it shorter, or allow more time: the time-out named 'statement'."
            ) from None
        finally:
            await connection.close(timeout=self._timeouts.stop)

    async def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Run a question as the owner and return its rows."""
        import asyncpg

        connection = await self._connect(self.owner)
        try:
            rows = await asyncio.wait_for(connection.fetch(query), self._timeouts.statement)
        except asyncpg.PostgresError as error:
            raise DatabaseUnusable(failure(error, query, "The question", self.name)) from error
        finally:
            await connection.close(timeout=self._timeouts.stop)
        return [tuple(row) for row in rows]

    async def add_user(self, key: str, settings: Mapping[str, str]) -> Address:
        """Make a login role that carries these settings."""
        name = self._roles.prefix + hashlib.sha256(f"{self.name} {key}".encode()).hexdigest()[:14]
        password = self._roles.password_of(name)
        async with self._working:
            connection = await self._connected()
            steps = [self._roles.create(name), f"GRANT {self._roles.app} TO {name}"]
            for setting, value in settings.items() if self._roles.is_superuser else ():
                quoted = ".".join(f'"{part}"' for part in setting.split("."))
                steps.append(f"ALTER ROLE {name} SET {quoted} = {await _literal(connection, value)}")
            if name not in self._users:
                await connection.execute(";\n".join(steps))
                self._users.append(name)
        user = self._admin.as_role(name, password)
        # Only a superuser may give a role a setting that no extension declares; the DSN can carry it as well.
        return user if self._roles.is_superuser else user.with_settings(settings)

    async def retire(self) -> tuple[tuple[Leftover, ...], bool]:
        """Take the database back from a test.

        Returns:
            The sessions that had to be ended, and whether the next test can have it.
        """
        self.uses += 1
        async with self._working:
            connection = await self._connected()
            leftovers = await sessions.end_all_but(connection, self._own_pids)
            fingerprint, is_empty, has_settings = await self._emptied_at_once(connection)
            forget = [f"DROP OWNED BY {user}; DROP ROLE {user}" for user in self._users]
            forget += [self._roles.forget_settings] if has_settings else []
            if not is_empty:
                await self._reset(connection, fingerprint, ";\n".join(forget))
            elif forget:
                await connection.execute(";\n".join(forget))
            self._users.clear()
        return leftovers, fingerprint == self._fingerprint and self._emptying[fingerprint].is_complete

    async def _emptied_at_once(self, connection: Connection) -> tuple[str, bool, bool]:
        """Empty the database as its schema left it, without a look at the whole structure where that can be.

        Returns:
            The fingerprint of its structure, whether it is empty, and whether there may be settings to forget.
        """
        import asyncpg

        how = self._emptying[self._fingerprint]
        row = None
        if how.at_once:
            with contextlib.suppress(asyncpg.PostgresError):  # Such as a table that is gone: looked at below.
                if self._at_once is None:
                    self._at_once = await connection.prepare(
                        f"{how.at_once}, {self._roles.has_settings}, {structure.WRITES}"
                    )
                row = await self._at_once.fetchrow()
        if row is None:
            return await connection.fetchval(structure.FINGERPRINT), False, True
        *_, has_settings, writes = row
        fingerprint = self._fingerprint
        if writes is None or writes != self._writes or self._roles.major < structure.COUNTS_AT_ONCE:
            fingerprint = await connection.fetchval(structure.FINGERPRINT)
            if fingerprint != self._fingerprint:
                return fingerprint, False, True
            self._writes = writes
        if how.seeds:
            async with connection.transaction():
                await catalogue.put_back(connection, how.seeds)
        return fingerprint, True, has_settings

    async def end_sessions(self) -> tuple[Leftover, ...]:
        """End every session in the database but the package's own, and name them."""
        return await sessions.end_all_but(await self._connected(), self._own_pids)

    def ignore(self, pid: int) -> None:
        """Take a session for one of the package's own."""
        self._own_pids.add(pid)

    async def disconnect(self) -> None:
        """Close the package's own connections, so that the database can be dropped."""
        for connection in (self._connection, self._watch):
            if connection is not None and not connection.is_closed():
                with contextlib.suppress(OSError, TimeoutError):
                    await connection.close(timeout=self._timeouts.stop)
        self._connection = self._watch = self._at_once = None

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._at_once = None
            # For the whole session: whenever it is set, PostgreSQL throws the session's plans away.
            more = {"session_replication_role": "replica"} if self._roles.is_superuser else {}
            lock = {"lock_timeout": f"{max(1, int(self._timeouts.lock * 1000))}"}
            self._connection = await connect(self._admin, self._timeouts.connect, **lock, **more)
            self._own_pids.add(self._connection.get_server_pid())
        return self._connection

    async def _connect(self, address: Address) -> Connection:
        return await connect(address, self._timeouts.connect)


async def connect(address: Address, timeout: float, **settings: str) -> Connection:  # noqa: ASYNC109
    """Open one of the package's own connections, with these settings for its session."""
    import asyncpg

    return await asyncpg.connect(
        address.url(), timeout=timeout, server_settings={"application_name": "ssot-isolation", **settings}
    )


async def _literal(connection: Connection, value: str) -> str:
    literal: str = await connection.fetchval("SELECT quote_literal($1::text)", value)
    return literal
