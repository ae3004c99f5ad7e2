"""An asyncpg pool that counts, and that is closed with its test or with its loop, whichever ends first."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import asyncpg
from asyncpg.pool import Pool, PoolConnectionProxy

from pytest_ssot_isolation.errors import DatabaseUnusable
from pytest_ssot_isolation.provisioning.metrics import ConnectionMetrics

_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(asyncpg.create_pool).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
}


class MeteredPool(Pool):  # type: ignore[misc]
    """An asyncpg pool as ``asyncpg.create_pool`` makes it, which tells what it does to ``metrics``."""

    def __init__(self, dsn: str, metrics: ConnectionMetrics, close_within: float, **options: Any) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise DatabaseUnusable(
                "A pool belongs to one event loop, and no event loop is running here.\n"
                "Ask for it inside the `async def` that uses it: async with postgres.pool() as pool."
            ) from None
        options = {**_DEFAULTS, **options}
        options["connect"] = self._timed(options.get("connect") or asyncpg.connect)
        self._metrics = metrics
        self._close_within = close_within
        self._held_since: dict[int, float] = {}
        super().__init__(dsn, **options)
        self._guard = self._until_the_loop_closes()
        # Run up to its `yield` inside the loop: from then on the loop closes it, and so the pool, at its end.
        with contextlib.suppress(StopIteration):
            self._guard.asend(None).send(None)

    async def _until_the_loop_closes(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.shut()

    def _timed(self, connect: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                connection = await connect(*arguments, **options)
            except BaseException:
                self._metrics.failed()
                raise
            self._metrics.connected(time.perf_counter() - began)
            return connection

        return timed

    async def _acquire(self, timeout: float | None) -> PoolConnectionProxy:  # noqa: ASYNC109
        began = time.perf_counter()
        try:
            connection = await super()._acquire(timeout)
        except BaseException:
            self._metrics.failed()
            raise
        now = time.perf_counter()
        self._metrics.waited(now - began)
        self._held_since[id(connection)] = now
        return connection

    async def release(self, connection: PoolConnectionProxy, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Give a connection back, as asyncpg's own pool does."""
        since = self._held_since.pop(id(connection), None)
        if since is not None:
            self._metrics.held(time.perf_counter() - since)
        await super().release(connection, timeout=timeout)

    async def shut(self) -> None:
        """Close in good order, or by force when a connection is never given back."""
        if self.is_closing() or not self._initialized:
            return
        if self._held_since:
            self.terminate()
            return
        try:
            async with asyncio.timeout(self._close_within):
                await self.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.terminate()

    def shut_from_outside(self) -> None:
        """Close from plain code, whatever the state of the pool's loop."""
        loop = self._loop
        if loop is None or loop.is_closed() or self.is_closing():
            return
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if loop.is_running() and running is not loop:
            with contextlib.suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self.shut(), loop).result(self._close_within)
        elif running is None:
            loop.run_until_complete(self.shut())
        elif self._initialized:
            # Called inside a loop: nothing can be awaited from plain code.
            self.terminate()
