"""The diary of each user, written in the background, two lines at a time to save transactions."""

from __future__ import annotations

from golden_path.connections import ConnectionFactory
from golden_path.context import UserExecutionContext


class Activity:
    """What each user did, in that user's own words."""

    def __init__(self, connections: ConnectionFactory) -> None:
        self._connections = connections
        self._waiting: list[str] = []

    async def record(self, context: UserExecutionContext, what: str) -> None:
        """Write a line down, and put what waits into the database when there are two."""
        self._waiting.append(what)
        if len(self._waiting) >= 2:
            lines, self._waiting = self._waiting, []
            async with self._connections.transaction(context) as connection:
                await connection.executemany(
                    "INSERT INTO activity (what) VALUES ($1)", [(line,) for line in lines]
                )

    async def page(self, context: UserExecutionContext) -> list[str]:
        """Return the lines of the user's own diary, the oldest first."""
        async with self._connections.transaction(context) as connection:
            return [row["what"] for row in await connection.fetch("SELECT what FROM activity ORDER BY place")]
