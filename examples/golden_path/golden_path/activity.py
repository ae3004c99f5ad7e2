"""The diary of each user, written in the background after the answer is out."""

from __future__ import annotations

from golden_path.connections import ConnectionFactory
from golden_path.context import UserExecutionContext


class Activity:
    """What each user did, in that user's own words."""

    def __init__(self, connections: ConnectionFactory) -> None:
        self._connections = connections

    async def record(self, context: UserExecutionContext, what: str) -> None:
        """Write one line into the diary of the user whom the context names."""
        async with self._connections.transaction(context) as connection:
            await connection.execute("INSERT INTO activity (what) VALUES ($1)", what)

    async def page(self, context: UserExecutionContext) -> list[str]:
        """Return the lines of the user's own diary, the oldest first."""
        async with self._connections.transaction(context) as connection:
            return [row["what"] for row in await connection.fetch("SELECT what FROM activity ORDER BY place")]
