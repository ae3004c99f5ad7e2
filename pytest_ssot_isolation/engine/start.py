"""Equal starts: before each run the databases are reset, and the application is made anew."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from pytest_ssot_isolation.errors import SurfaceError

LEAVING_PATIENCE = 10.0
"""Seconds that the world may take to end."""

ENDING_PATIENCE = 0.2
"""Seconds that left-over tasks get after they were cancelled."""


class Starts:
    """Gives each run the same start.

    Args:
        world: Called without arguments for the application: a value, an awaitable, or a context
            manager of either kind; None where the surface needs none.
        reset: Called with the world for state of the author's own; None without.
        databases: Reset the databases of the test.
        scope: ``"example"``, or ``"check"``: one world for all runs.
        within: Called with what the factory gave, one after another: each is entered with the world, and left
            before it.
    """

    def __init__(
        self,
        world: Callable[[], Any] | None,
        reset: Callable[[Any], Any] | None,
        databases: Sequence[Callable[[], Awaitable[None]]] = (),
        scope: str = "example",
        within: Sequence[Callable[[Any], AbstractAsyncContextManager[Any]]] = (),
    ) -> None:
        self._world = world
        self._reset = reset
        self._databases = databases
        self._scope = scope
        self._within = within
        self._kept: tuple[AsyncExitStack, Any] | None = None
        self._has_end = bool(within)
        self.has_ended = False
        """Whether a world was ever left as it should be: then another that was not may be the application's mistake."""
        self.unended: SurfaceError | None = None
        """The first failure to leave a world: whoever has found nothing raises it."""

    @property
    def are_equal(self) -> bool:
        """Whether two runs begin alike, so that they may be compared."""
        return self._reset is not None or (self._world is not None and self._scope == "example")

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Any]:
        """Reset what outlives a run, enter the world, and leave it with a bound on the time.

        Raises:
            SurfaceError: The world or a reset raised.
        """
        for database in self._databases:
            await database()
        if self._scope == "check":
            if self._kept is None:
                stack = AsyncExitStack()
                self._kept = (stack, await self._start(stack))
            world = self._kept[1]
            await self._own_reset(world)
            yield world
            return
        loop = asyncio.get_running_loop()
        before = asyncio.all_tasks(loop)
        stack = AsyncExitStack()
        try:
            world = await self._start(stack)
            await self._own_reset(world)
            yield world
        finally:
            await self._leave(stack)
            await end_tasks(asyncio.all_tasks(loop) - before)

    async def end(self) -> None:
        """Leave a world that was kept for the whole check."""
        if self._kept is not None:
            stack, _ = self._kept
            self._kept = None
            await self._leave(stack)

    async def _start(self, stack: AsyncExitStack) -> Any:
        world = await self._enter(stack)
        for start in self._within:
            world = await stack.enter_async_context(start(world))
        return world

    async def _enter(self, stack: AsyncExitStack) -> Any:
        if self._world is None:
            return None
        try:
            given = self._world()
            if inspect.isawaitable(given) and not hasattr(type(given), "__aenter__"):
                given = await given
            if hasattr(type(given), "__aenter__"):
                self._has_end = True
                return await stack.enter_async_context(given)
            if hasattr(type(given), "__enter__"):
                self._has_end = True
                return stack.enter_context(given)
        except Exception as error:
            name = getattr(self._world, "__qualname__", repr(self._world))
            loop = "attached to a different loop" in str(error) or "different event loop" in str(error)
            remedy = (
                "make everything that belongs to an event loop inside the factory: it is called in the harness's own"
                if loop
                else "call the factory by itself in a small test, and mend what it raises"
            )
            raise SurfaceError(
                f"The world could not be made: world={name} raised {type(error).__name__}: {error}\n"
                f"To fix this, {remedy}."
            ) from error
        return given

    async def _own_reset(self, world: Any) -> None:
        if self._reset is None:
            return
        try:
            given = self._reset(world)
            if inspect.isawaitable(given):
                await given
        except Exception as error:
            name = getattr(self._reset, "__qualname__", repr(self._reset))
            raise SurfaceError(
                f"The state could not be reset: reset={name} raised {type(error).__name__}: {error}\n"
                "To fix this, mend it; it is called with the world before each run."
            ) from error

    async def _leave(self, stack: AsyncExitStack) -> None:
        if not self._has_end:
            return  # a plain value; a task to leave it would be a tenth of a short example
        leaving = asyncio.get_running_loop().create_task(stack.aclose())
        done, _ = await asyncio.wait({leaving}, timeout=LEAVING_PATIENCE)
        if not done:
            leaving.cancel()
            await asyncio.wait({leaving}, timeout=ENDING_PATIENCE)
            self._not_ended(
                f"The world had not ended after {LEAVING_PATIENCE:g} s.\n"
                "To fix this, look at what its context manager waits for when it is left: often a connection that "
                "was never given back, or a task that is not cancelled."
            )
            return
        error = leaving.exception()
        if error is not None:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._not_ended(
                f"The world could not be ended: {type(error).__name__}: {error} "
                f"({Path(where.filename).name}:{where.lineno} in {where.name})\n"
                "To fix this, mend what its context manager does when it is left.",
                error,
            )
            return
        self.has_ended = True

    def _not_ended(self, text: str, error: BaseException | None = None) -> None:
        if self.unended is None:
            self.unended = SurfaceError(text)
            self.unended.__cause__ = error


async def end_tasks(tasks: set[asyncio.Task[Any]]) -> tuple[str, ...]:
    """Cancel tasks that were left over, and wait a little.

    Returns:
        Names of those that ignored the cancellation.
    """
    left = {task for task in tasks if not task.done() and task is not asyncio.current_task()}
    if not left:
        return ()
    for task in left:
        task.cancel()
    _, stubborn = await asyncio.wait(left, timeout=ENDING_PATIENCE)
    return tuple(sorted(task.get_name() for task in stubborn))
