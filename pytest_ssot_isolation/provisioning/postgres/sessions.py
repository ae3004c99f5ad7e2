"""The sessions in one database: who is still there, who waits for whom, and how they are ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_ssot_isolation.provisioning.secret_text import hide_passwords

if TYPE_CHECKING:
    from asyncpg import Connection

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


async def end_all_but(connection: Connection, own: Iterable[int]) -> tuple[Leftover, ...]:
    """End every session in the connection's database but these, and name them."""
    found = await connection.fetch(_LEFTOVERS, own)
    for pause in (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016):
        # A connection closed just now is still there for a moment.
        if not found or any(row["state"] not in ("idle", "") for row in found):
            break
        await asyncio.sleep(pause)
        found = await connection.fetch(_LEFTOVERS, own)
    await end(connection, [row["pid"] for row in found])
    return tuple(
        Leftover(
            row["pid"], row["user"], row["application"], row["state"], hide_passwords(row["query"])[:100]
        )
        for row in found
    )


async def end(connection: Connection, pids: Iterable[int]) -> None:
    """End these sessions, and wait for their end."""
    for pid in pids:
        await connection.execute(f"SELECT pg_terminate_backend({pid}, 2000)")


async def that_wait(connection: Connection) -> frozenset[int]:
    """Return the sessions in the connection's database that wait for another's lock."""
    return frozenset(row["pid"] for row in await connection.fetch(_BLOCKED))


async def that_block(connection: Connection, pid: int) -> frozenset[int]:
    """Return the sessions that hold what this one waits for."""
    return frozenset(row[0] for row in await connection.fetch(_BLOCKING, pid))


async def gone(connection: Connection, port: int, within: float) -> None:
    """Wait until the session of a dropped connection is gone, and end it where it does not go by itself.

    Args:
        connection: To the same database.
        port: The dropped connection's port on the client's side.
        within: Seconds after which a session that may not be ended is left to the server.
    """
    import asyncpg

    began = time.monotonic()
    while rows := await connection.fetch(_OF_PORT, port):
        waited = time.monotonic() - began
        if waited > within:
            return  # this role may not end it: it ends when the server notices
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            for row in rows:
                if row["waits"] or waited > LETS_GO:
                    await connection.execute(f"SELECT pg_terminate_backend({row['pid']})")
        await asyncio.sleep(0.001)
