"""PostgreSQL connections: pooled, measured, and bound to one user for one transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from golden_path.breaker import CircuitBreaker
from golden_path.context import UserExecutionContext, require
from golden_path.timeouts import ConnectionMetrics, DatabaseTimeoutConfig

if TYPE_CHECKING:
    import asyncpg

# The third argument makes the setting end with the transaction, however it ends.
_BIND = "SELECT set_config('app.tenant_id', $1, true), set_config('app.user_id', $2, true)"


class ConnectionFactory:
    """Hands out transactions in which row security knows the user.

    Args:
        dsn: Connects as the application's role, which owns nothing and cannot pass row security.
        timeouts: Seconds to wait for what.
        size: Most connections at the same time.
    """

    def __init__(self, dsn: str, *, timeouts: DatabaseTimeoutConfig, size: int = 3) -> None:
        self._dsn = dsn
        self._timeouts = timeouts
        self._size = size
        self._pool: Any = None
        self._breakers: dict[tuple[str, str], CircuitBreaker] = {}
        self.metrics = ConnectionMetrics()

    async def open(self) -> None:
        """Make the pool with its first connection."""
        import asyncpg

        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=1,
            max_size=self._size,
            command_timeout=self._timeouts.statement,
            timeout=self._timeouts.connect,
            connect=self._connect,
        )

    async def close(self) -> None:
        """Close every connection; those still in use are waited for, then cut."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            await asyncio.wait_for(pool.close(), self._timeouts.close)
        except TimeoutError:
            pool.terminate()

    @asynccontextmanager
    async def transaction(self, context: UserExecutionContext) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Yield a connection inside a transaction that acts as this user.

        Raises:
            CircuitOpen: The database failed this user several times in a row.
        """
        require(context)
        # A breaker for each user: what one of them brings about must not shut out the others.
        breaker = self._breakers.get(context.key)
        if breaker is not None:
            breaker.admit()
        asked = time.perf_counter()
        try:
            async with self._pool.acquire(timeout=self._timeouts.acquire) as connection:
                got = time.perf_counter()
                self.metrics.waited(got - asked)
                try:
                    async with connection.transaction():
                        await connection.execute(_BIND, context.tenant_id, context.user_id)
                        yield connection
                finally:
                    self.metrics.held(time.perf_counter() - got)
        except Exception as error:
            if _is_of_the_server(error):
                self.metrics.failed()
                self._breakers.setdefault(context.key, CircuitBreaker()).failed()
            raise
        # Kept for those only who saw a failure, so it does not grow with the number of users.
        self._breakers.pop(context.key, None)

    async def _connect(self, *args: Any, **options: Any) -> asyncpg.Connection[Any]:
        import asyncpg

        began = time.perf_counter()
        connection: asyncpg.Connection[Any] = await asyncpg.connect(*args, **options)
        self.metrics.connected(time.perf_counter() - began)
        return connection


def _is_of_the_server(error: Exception) -> bool:
    # A statement that PostgreSQL refuses is the user's mistake and says nothing about the server's health.
    import asyncpg

    return isinstance(
        error,
        (
            OSError,
            TimeoutError,
            asyncpg.PostgresConnectionError,
            asyncpg.InsufficientResourcesError,
            asyncpg.OperatorInterventionError,
        ),
    )
