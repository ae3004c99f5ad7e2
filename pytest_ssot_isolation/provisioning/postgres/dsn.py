"""PostgreSQL that somebody else runs, reached by a DSN."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.errors import DatabaseUnusable, ServerError, ServerFailed
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.marking import MARK, is_named_for_tests, refusal
from pytest_ssot_isolation.provisioning.postgres.address import Address
from pytest_ssot_isolation.provisioning.postgres.background import Background
from pytest_ssot_isolation.provisioning.postgres.in_place import InPlaceServer
from pytest_ssot_isolation.provisioning.postgres.programs import OLDEST
from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer
from pytest_ssot_isolation.provisioning.secret_text import hide_passwords

if TYPE_CHECKING:
    from asyncpg import Connection


@dataclass(frozen=True, slots=True)
class Dsn:
    """The way to a server that somebody else runs."""

    way: str = "dsn"

    def why_not(self, wanted: Wanted) -> str | None:
        """Return that no DSN was given, or None."""
        return None if wanted.dsn else "no DSN was given (--ssot-postgres=DSN)"

    def start(self, wanted: Wanted) -> PostgresServer:
        """Reach the server, and see what its role may do there.

        Raises:
            NotATestDatabase: Nobody marked the database as one that tests may write to.
            ServerFailed: It does not answer, refuses the role, is too old, or the role may do too little.
        """
        place = _parse(wanted)
        background = Background()
        try:
            seen = background.run(_look(place, wanted))
        finally:
            background.close()
        kind = PostgresServer if seen.may_create_databases else InPlaceServer
        return kind(admin_dsn=place.url(), version=seen.version, way=self.way, wanted=wanted)


def _parse(wanted: Wanted) -> Address:
    try:
        return Address.parse(wanted.dsn or "")
    except DatabaseUnusable as error:
        told = str(error)
    # Anew: the first one's traceback leads to the DSN's parts, which a report of all variables would show.
    raise DatabaseUnusable(told)


@dataclass(frozen=True, slots=True)
class _Seen:
    version: str
    may_create_databases: bool


async def _look(place: Address, wanted: Wanted) -> _Seen:
    connection = await _reach(place, wanted.timeouts.connect)
    try:
        if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
            raise ServerFailed(
                f"Between here and PostgreSQL at {place} is a connection pooler, such as PgBouncer, whose sessions "
                "change hands.\nThe tests' databases are made, watched and dropped by sessions of their own.\n"
                "To fix this, give the server's own address; the application may use the pooler all the same."
            )
        version = str(await connection.fetchval("SHOW server_version")).split()[0]
        major = connection.get_server_version().major
        if major < OLDEST:
            raise ServerFailed(
                f"PostgreSQL {version} at {place} is too old: {OLDEST} is the oldest that is supported.\n"
                "Give the DSN of a newer one, or leave it out for an embedded one."
            )
        if wanted.version and str(major) != wanted.version.partition(".")[0]:
            raise ServerFailed(
                f"The tests ask for PostgreSQL {wanted.version}, and at {place} there is {version}.\n"
                "Give the DSN of such a server, or leave it out for an embedded one."
            )
        if not is_named_for_tests(place.database) and not await connection.fetchval(
            "SELECT to_regclass($1) IS NOT NULL", MARK
        ):
            raise refusal("postgres", str(place), place.database)
        role = await connection.fetchrow(
            "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        )
        if not (role["rolsuper"] or role["rolcreaterole"]):
            raise ServerFailed(
                f"The role of {place} may not create roles, so the tests can have no application role;\n"
                "row security would not apply to the role itself, which owns what it creates.\n"
                f'To fix this, have an administrator run: ALTER ROLE "{place.user}" CREATEROLE CREATEDB'
            )
        return _Seen(version, role["rolsuper"] or role["rolcreatedb"])
    finally:
        await connection.close()


async def _reach(place: Address, timeout: float) -> Connection:  # noqa: ASYNC109
    import asyncpg

    try:
        # Without prepared statements, which a pooler may give to another session: it is told from its answers.
        return await asyncpg.connect(place.url(), timeout=timeout, statement_cache_size=0)
    except (
        OSError,
        TimeoutError,
        asyncio.CancelledError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
    ) as error:
        raise _unreachable(place, timeout, error) from None


def _unreachable(place: Address, timeout: float, error: Any) -> ServerError:
    import asyncpg

    words = hide_passwords(str(error)) or type(error).__name__
    if isinstance(error, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError):
        remedy = "Put the right user and password into the DSN."
    elif isinstance(error, asyncpg.InvalidCatalogNameError):
        remedy = f'Create the database: createdb "{place.database}"'
    elif isinstance(error, TimeoutError):
        words = f"no answer within {timeout:g} s"
        remedy = "Look whether a firewall is in between, or allow more time: the time-out named 'connect'."
    elif isinstance(error, OSError):
        remedy = "Start the server, or mend host and port in the DSN."
    else:
        remedy = "Mend the DSN, or leave it out for an embedded server."
    return ServerFailed(f"PostgreSQL at {place} cannot be reached: {words}\n{remedy}")
