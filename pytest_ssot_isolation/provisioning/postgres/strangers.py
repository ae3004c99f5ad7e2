"""On a server that outlives the run: what this run made goes with it, and what dead runs left is swept."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Final

from pytest_ssot_isolation.provisioning.postgres.roles import Roles, number_of

if TYPE_CHECKING:
    from asyncpg import Connection

_OURS: Final = re.compile(r"^ssot_[0-9a-f]{10}")
# Locks of other databases show here as well, whichever database a run was given.
_ALIVE: Final = """
    SELECT EXISTS (SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND classid = $1::int::oid AND objid = $2::int::oid AND objsubid = 2)"""


async def sweep(connection: Connection, lock: int) -> None:
    """Remove databases and roles of runs that were killed: nobody holds their lock any more."""
    names = await connection.fetch(
        "SELECT datname AS name FROM pg_database UNION SELECT rolname FROM pg_roles"
    )
    for prefix in sorted({found.group() for row in names if (found := _OURS.match(row["name"]))}):
        if not await connection.fetchval(_ALIVE, lock, number_of(prefix)):
            await _remove(connection, prefix)


async def leave(connection: Connection, lock: int, roles: Roles) -> None:
    """Give up this worker's part in the run; the last one out removes all that the run made."""
    await connection.execute("SELECT pg_advisory_unlock_shared($1, $2)", lock, roles.number)
    if await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", lock, roles.number):
        await _remove(connection, roles.prefix)


async def _remove(connection: Connection, prefix: str) -> None:
    import asyncpg

    databases = await connection.fetch(
        "SELECT datname FROM pg_database WHERE starts_with(datname, $1)", prefix
    )
    # What another's role made, or what another sweeper is removing as well, is not for us to insist on.
    for row in databases:
        with contextlib.suppress(asyncpg.PostgresError):
            await connection.execute(f'DROP DATABASE IF EXISTS "{row["datname"]}" WITH (FORCE)')
    roles = await connection.fetch("SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1)", prefix)
    for row in roles:
        with contextlib.suppress(asyncpg.PostgresError):
            await connection.execute(f'DROP ROLE IF EXISTS "{row["rolname"]}"')
