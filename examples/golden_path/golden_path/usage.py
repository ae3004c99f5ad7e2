"""Usage events in ClickHouse, and each user's summary of them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

from golden_path.context import UserExecutionContext, require

ClientFactory = Callable[[], Any]

_MINE = "tenant_id = {tenant:String} AND user_id = {user:String}"


class ClickHouse:
    """One ClickHouse client, opened when it is first needed.

    Args:
        source: A DSN, or a callable that gives a client of clickhouse-connect. Such a client
            must have no session id, since a session refuses a second query in flight.
    """

    def __init__(self, source: str | ClientFactory) -> None:
        self._source = source
        self._client: Any = None
        self._opening = threading.Lock()

    async def rows(self, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return await asyncio.to_thread(
            lambda: list(self._open().query(query, parameters=parameters).result_rows)
        )

    async def insert(self, event: dict[str, Any]) -> None:
        """Write one usage event."""
        # The types are told, since otherwise the driver asks for them each time.
        await asyncio.to_thread(
            lambda: self._open().insert(
                "usage_event",
                [list(event.values())],
                column_names=list(event),
                column_type_names=["String", "String", "String", "UInt64"],
            )
        )

    async def close(self) -> None:
        """Close the client, if it was opened at all."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close)

    def _open(self) -> Any:
        # Two first queries come from two threads.
        with self._opening:
            if self._client is None:
                self._client = _connect(self._source) if isinstance(self._source, str) else self._source()
            return self._client


def _connect(dsn: str) -> Any:
    import clickhouse_connect

    # The embedded engine knows no sessions.
    options: dict[str, Any] = {} if dsn.startswith("chdb:") else {"autogenerate_session_id": False}
    return clickhouse_connect.get_client(dsn=dsn, **options)


class UsageService:
    """The usage of one user.

    Args:
        context: The user.
        clickhouse: Where the events are; left out, what ``GOLDEN_PATH_CLICKHOUSE`` names.
    """

    def __init__(self, context: UserExecutionContext, clickhouse: ClickHouse | None = None) -> None:
        self.context = context
        self._clickhouse = clickhouse

    async def record(self, label: str, tokens: int) -> None:
        """Write down that a run used so many tokens."""
        await self._where_events_are().insert(
            {
                "tenant_id": self.context.tenant_id,
                "user_id": self.context.user_id,
                "label": label,
                "tokens": tokens,
            },
        )

    async def summary(self) -> dict[str, Any]:
        """Return the user's totals, and the same by label."""
        mine = {"tenant": self.context.tenant_id, "user": self.context.user_id}
        clickhouse = self._where_events_are()
        [(runs, tokens)] = await clickhouse.rows(
            f"SELECT count(), sum(tokens) FROM usage_event WHERE {_MINE}", mine
        )
        labels = await clickhouse.rows(
            f"SELECT label, count(), sum(tokens) FROM usage_event WHERE {_MINE} GROUP BY label ORDER BY 1",
            mine,
        )
        return {
            "runs": runs,
            "tokens": tokens,
            "labels": [{"label": label, "runs": each, "tokens": used} for label, each, used in labels],
        }

    def _where_events_are(self) -> ClickHouse:
        if self._clickhouse is None:
            self._clickhouse = ClickHouse(os.environ["GOLDEN_PATH_CLICKHOUSE"])
        return self._clickhouse


def get_clickhouse_service(
    context: UserExecutionContext, *, clickhouse: ClickHouse | None = None
) -> UsageService:
    """Return the usage service of one user; nothing is connected yet.

    Raises:
        ValueError: The context is missing or something else.
    """
    return UsageService(require(context), clickhouse)
