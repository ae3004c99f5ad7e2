"""Agent runs in PostgreSQL, under row security like the notes."""

from __future__ import annotations

import uuid
from typing import Any

from golden_path.connections import ConnectionFactory
from golden_path.context import UserExecutionContext
from golden_path.errors import NotFound


def _to_json(row: Any) -> dict[str, Any]:
    return {
        "run_id": str(row["run_id"]),
        **{name: row[name] for name in ("label", "prompt", "status", "output")},
    }


class RunStore:
    """The agent runs of all users, seen by one user at a time."""

    def __init__(self, connections: ConnectionFactory) -> None:
        self._connections = connections

    async def start(self, context: UserExecutionContext, label: str, prompt: str) -> uuid.UUID:
        """Write a new run down and return its id, which cannot be guessed."""
        run_id = uuid.uuid4()
        async with self._connections.transaction(context) as connection:
            await connection.execute(
                "INSERT INTO agent_run (run_id, label, prompt) VALUES ($1, $2, $3)", run_id, label, prompt
            )
        return run_id

    async def finish(self, context: UserExecutionContext, run_id: uuid.UUID, output: str) -> None:
        """Write down what a run gave."""
        async with self._connections.transaction(context) as connection:
            await connection.execute(
                "UPDATE agent_run SET status = 'finished', output = $2 WHERE run_id = $1", run_id, output
            )

    async def get(self, context: UserExecutionContext, run_id: uuid.UUID) -> dict[str, Any]:
        """Return one run of the user."""
        async with self._connections.transaction(context) as connection:
            row = await connection.fetchrow(
                "SELECT run_id, label, prompt, status, output FROM agent_run WHERE run_id = $1", run_id
            )
        if row is None:
            raise NotFound("no such run")
        return _to_json(row)

    async def page(self, context: UserExecutionContext) -> list[dict[str, Any]]:
        """Return all runs of the user, the oldest first."""
        async with self._connections.transaction(context) as connection:
            rows = await connection.fetch(
                "SELECT run_id, label, prompt, status, output FROM agent_run ORDER BY place"
            )
        return [_to_json(row) for row in rows]

    async def delete(self, context: UserExecutionContext, run_id: uuid.UUID) -> None:
        """Forget one run of the user."""
        async with self._connections.transaction(context) as connection:
            gone = await connection.fetchval("DELETE FROM agent_run WHERE run_id = $1 RETURNING true", run_id)
        if not gone:
            raise NotFound("no such run")
