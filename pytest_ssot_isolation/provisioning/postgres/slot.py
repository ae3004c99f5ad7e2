"""One database on the server, handed to one test after another: emptied, watched, compared with its start."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.errors import DatabaseUnusable
from pytest_ssot_isolation.provisioning.postgres import catalogue
from pytest_ssot_isolation.provisioning.postgres.address import Address
from pytest_ssot_isolation.provisioning.postgres.schema import failure, read_script
from pytest_ssot_isolation.provisioning.secret_text import hide_passwords

if TYPE_CHECKING:
    from asyncpg import Connection

    from pytest_ssot_isolation.provisioning.postgres.roles import Roles
    from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

LETS_GO = 0.1
"""Seconds that a session gets to notice that its client is gone, the statement that had arrived included."""

_LEFTOVERS = """
    SELECT pid, coalesce(usename, '') AS user, coalesce(application_name, '') AS application,
           coalesce(state, '') AS state, coalesce(query, '') AS query
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> ALL($1::int[])"""
_BLOCKED = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND cardinality(pg_blocking_pids(pid)) > 0"""
_OF_PORT = """
    SELECT pid, wait_event_type = 'Lock' AS waits FROM pg_stat_activity
    WHERE datname = current_database() AND client_port = $1"""
_BLOCKING = """
    SELECT DISTINCT unnest(pg_blocking_pids(pid)) FROM pg_stat_activity WHERE pid = $1"""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A session that was still open when its test had ended.

    Attributes:
        pid: Of the server's process.
        user: The role it was connected as.
        application: The name it gave itself.
        state: Such as ``"idle"`` or ``"idle in transaction"``.
        query: What it ran last, cut, with passwords starred out.
    """

    pid: int
    user: str
    application: str
    state: str
    query: str

    def __str__(self) -> str:
        return f"session {self.pid} of {self.user} ({self.state}): {self.query}"


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
        self._emptying: dict[str, catalogue.Emptying] = {}

    async def learn(self, known: tuple[str, dict[str, catalogue.Emptying]] | None) -> Any:
        """Look at the database as its schema left it, or take over what is known of its template."""
        connection, _ = await asyncio.gather(self._connected(), self._structure())
        if known is None:
            fingerprint = await self._structure()
            emptying = await catalogue.describe(
                connection, is_superuser=self._roles.is_superuser, as_left_by_schema=True
            )
            known = fingerprint, {fingerprint: emptying}
        self._fingerprint, self._emptying = known
        return known

    async def reset(self, fingerprint: str | None = None, *, before: str = "") -> None:
        """Empty the database, whose structure has this fingerprint if that is known already.

        Args:
            fingerprint: Of its structure as it is now.
            before: A script for the same transaction: a question less for the server.
        """
        async with self._working:
            connection = await self._connected()
            fingerprint = fingerprint or await self._structure()
            how = self._emptying.get(fingerprint)
            if how is None:
                left = self._emptying[self._fingerprint]
                how = await catalogue.describe(
                    connection, is_superuser=self._roles.is_superuser, as_left_by_schema=False
                )
                now = await catalogue.tables(connection)
                how = catalogue.Emptying(how.script, {t: r for t, r in left.seeds.items() if t in now})
            await self._empty(connection, how, before)

    async def _structure(self) -> str:
        # On the connection for watching: setting session_replication_role, as emptying does, throws away a
        # session's query plans, and planning this query takes ten times as long as running it.
        async with self._watched() as watch:
            fingerprint: str = await watch.fetchval(catalogue.FINGERPRINT)
            return fingerprint

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
                await self._end(sorted(blockers))
            except (asyncpg.PostgresConnectionError, asyncpg.CrashShutdownError, asyncpg.AdminShutdownError):
                raise
            except asyncpg.PostgresError as error:
                raise DatabaseUnusable(
                    f"The database {self.name} could not be reset: {error}.\n"
                    "If a rule of the schema stands in the way, empty it by your own `reset` instead."
                ) from error
            else:
                return

    async def _blockers_of(self, connection: Connection) -> set[int]:
        pid = connection.get_server_pid()
        async with self._watched() as watch:
            return {row[0] for row in await watch.fetch(_BLOCKING, pid)}

    async def blocked(self) -> frozenset[int]:
        """Return the sessions that wait for another's lock."""
        async with self._watched() as watch:
            return frozenset(row["pid"] for row in await watch.fetch(_BLOCKED))

    async def end_session(self, port: int) -> None:
        """Wait until the session of a dropped connection is gone, and end it where it does not go by itself."""
        import asyncpg

        began = time.monotonic()
        async with self._watched() as watch:
            while rows := await watch.fetch(_OF_PORT, port):
                waited = time.monotonic() - began
                if waited > self._timeouts.lock:
                    return  # this role may not end it: it ends when the server notices
                with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
                    for row in rows:
                        if row["waits"] or waited > LETS_GO:
                            await watch.execute(f"SELECT pg_terminate_backend({row['pid']})")
                await asyncio.sleep(0.001)

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
        async with self._watched():
            pass  # Opened later, it would be taken for a session that the test left open.
        # Two connections, so that neither question waits for the other's answer.
        leftovers, fingerprint = await asyncio.gather(self.end_sessions(), self._structure())
        if leftovers:
            fingerprint = await self._structure()  # One of them may have changed it until its end.
        forget = [f"DROP OWNED BY {user}; DROP ROLE {user}" for user in self._users]
        await self.reset(fingerprint, before=";\n".join([*forget, self._roles.forget_settings]))
        self._users.clear()
        is_same = fingerprint == self._fingerprint and self._emptying[fingerprint].is_complete
        return leftovers, is_same

    async def end_sessions(self) -> tuple[Leftover, ...]:
        """End every session in the database but the package's own, and name them."""
        connection = await self._connected()
        found = await connection.fetch(_LEFTOVERS, self._own_pids)
        for pause in (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016):
            # A connection closed just now is still there for a moment.
            if not found or any(row["state"] not in ("idle", "") for row in found):
                break
            await asyncio.sleep(pause)
            found = await connection.fetch(_LEFTOVERS, self._own_pids)
        if found:
            await self._end([row["pid"] for row in found])
        return tuple(
            Leftover(
                row["pid"], row["user"], row["application"], row["state"], hide_passwords(row["query"])[:100]
            )
            for row in found
        )

    async def _end(self, pids: list[int]) -> None:
        connection = await self._connected()
        for pid in pids:
            await connection.execute(f"SELECT pg_terminate_backend({pid}, 2000)")

    def ignore(self, pid: int) -> None:
        """Take a session for one of the package's own."""
        self._own_pids.add(pid)

    async def disconnect(self) -> None:
        """Close the package's own connections, so that the database can be dropped."""
        for connection in (self._connection, self._watch):
            if connection is not None and not connection.is_closed():
                with contextlib.suppress(OSError, TimeoutError):
                    await connection.close(timeout=self._timeouts.stop)
        self._connection = self._watch = None

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect(self._admin)
            self._own_pids.add(self._connection.get_server_pid())
        return self._connection

    async def _connect(self, address: Address) -> Connection:
        return await connect(address, self._timeouts.connect)


async def connect(address: Address, timeout: float) -> Connection:  # noqa: ASYNC109
    """Open one of the package's own connections."""
    import asyncpg

    return await asyncpg.connect(
        address.url(), timeout=timeout, server_settings={"application_name": "ssot-isolation"}
    )


async def _literal(connection: Connection, value: str) -> str:
    literal: str = await connection.fetchval("SELECT quote_literal($1::text)", value)
    return literal
