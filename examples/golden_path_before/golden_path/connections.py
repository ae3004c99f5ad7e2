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

_BIND = "SELECT set_config('app.tenant_id', $1, false), set_config('app.user_id', $2, false)"


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
        self._breaker = CircuitBreaker()
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
            # Every transaction binds the connection again, so the round trip for a reset can be saved.
            reset=_leave_as_it_is,
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
        self._breaker.admit()
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
        except Exception:
            self.metrics.failed()
            self._breaker.failed()
            raise

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """Yield a connection for a single statement."""
        async with self._pool.acquire(timeout=self._timeouts.acquire) as connection:
            yield connection

    async def _connect(self, *args: Any, **options: Any) -> asyncpg.Connection[Any]:
        import asyncpg

        began = time.perf_counter()
        connection: asyncpg.Connection[Any] = await asyncpg.connect(*args, **options)
        self.metrics.connected(time.perf_counter() - began)
        return connection


async def _leave_as_it_is(connection: asyncpg.Connection[Any]) -> None:
    pass
