"""An event loop in a thread of its own, so that plain methods work inside a running loop as well."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """A private event loop; its callers wait in their own thread."""

    def __init__(self) -> None:
        # Made by name: a policy or a loop that the tests install must not reach in here.
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._serve, name="ssot-postgres", daemon=True)
        self._thread.start()
        self._tasks: set[asyncio.Task[Any]] = set()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work in the private loop and wait for it; called from any other thread."""
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result()
        except BaseException:
            waiting.cancel()
            raise

    async def run_async(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work in the private loop and await it in the caller's."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin work that nobody waits for yet; called inside the private loop."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Looked at here, or asyncio tells it on stderr; who awaits it gets it still.

    async def settle(self) -> None:
        """Wait until all that was begun has ended; its failures belong to whoever awaits the tasks."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """Stop the loop and wait for its thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
