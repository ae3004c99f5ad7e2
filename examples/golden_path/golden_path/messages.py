"""Messages from one user to another: the one thing here that two users may see."""

from __future__ import annotations

from typing import Any

from golden_path.connections import ConnectionFactory
from golden_path.context import UserExecutionContext


class MessageStore:
    """Letters; the sender and the addressee may read them, nobody else."""

    def __init__(self, connections: ConnectionFactory) -> None:
        self._connections = connections

    async def send(self, context: UserExecutionContext, recipient: str, text: str) -> None:
        """Send a text; nobody is told whether there is such an addressee."""
        async with self._connections.transaction(context) as connection:
            await connection.execute("INSERT INTO message (recipient, text) VALUES ($1, $2)", recipient, text)

    async def inbox(self, context: UserExecutionContext) -> list[dict[str, Any]]:
        """Return what others sent to the user, the oldest first."""
        async with self._connections.transaction(context) as connection:
            rows = await connection.fetch(
                "SELECT sender, text FROM message WHERE recipient = $1 ORDER BY place", context.user_id
            )
        return [{"from": row["sender"], "text": row["text"]} for row in rows]

    async def sent(self, context: UserExecutionContext) -> list[dict[str, Any]]:
        """Return what the user sent, the oldest first."""
        async with self._connections.transaction(context) as connection:
            rows = await connection.fetch(
                "SELECT recipient, text FROM message WHERE sender_tenant = $1 AND sender = $2 ORDER BY place",
                context.tenant_id,
                context.user_id,
            )
        return [{"to": row["recipient"], "text": row["text"]} for row in rows]
