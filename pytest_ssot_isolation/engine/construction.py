"""Calls a factory for user contexts: one after another, or many at once in tasks or threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pytest_ssot_isolation.errors import SurfaceError
from pytest_ssot_isolation.model.context import UserExecutionContext


class Failed:
    """What stands in the place of an instance whose construction raised."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        # The traceback keeps the factory's frames, and with them what it had made so far.
        self.error = f"{type(error).__name__}: {error}"


class Builder:
    """Calls one factory.

    Attributes:
        name: The factory's own name.
        calls: How often it was called.
        is_async: Whether it is an ``async def``.
        uses_threads: False for an asynchronous factory, and once it turned out to need a running event loop.
    """

    def __init__(self, factory: Callable[[Any], Any]) -> None:
        self._factory = factory
        self.name: str = getattr(factory, "__qualname__", type(factory).__qualname__)
        self.calls = 0
        self.is_async = _is_async(factory)
        self.uses_threads = not self.is_async

    async def build_one(self, context: Any) -> Any:
        """Build in a task of its own, as a request would, so that context variables stay apart."""
        return await asyncio.create_task(self._build(context))

    async def _build(self, context: Any) -> Any:
        try:
            with _current(context):
                made = self._call(context)
                if not inspect.isawaitable(made):
                    return made
                # A plain function may hand out an awaitable, as a lambda around an async one does.
                self.is_async, self.uses_threads = True, False
                return await made
        except SurfaceError:
            raise
        except Exception as error:
            return Failed(error)

    def _call(self, context: Any) -> Any:
        self.calls += 1
        made = self._factory(context)
        if isinstance(
            made, (contextlib._GeneratorContextManager, contextlib._AsyncGeneratorContextManager)
        ) or (inspect.isgenerator(made) or inspect.isasyncgen(made)):
            raise SurfaceError(
                f"{self.name} gave a {type(made).__name__}, not an instance.\n"
                "To fix this, pass a function that enters it and returns what it yields."
            )
        return made

    async def build_at_once(self, contexts: Sequence[Any]) -> list[Any]:
        """Build for all at the same time: in tasks, or in threads where the factory is a plain function."""
        if not self.uses_threads:
            return list(await asyncio.gather(*(self._build(context) for context in contexts)))

        def build(context: Any) -> Any:
            try:
                with _current(context):
                    return self._call(context)
            except SurfaceError:
                raise
            except Exception as error:
                return Failed(error)

        with ThreadPoolExecutor(
            max_workers=min(32, len(contexts)), thread_name_prefix="ssot-factory"
        ) as pool:
            waiting = [pool.submit(contextvars.Context().run, build, context) for context in contexts]
            built = [future.result() for future in waiting]
            del waiting
        if any(isinstance(one, Failed) and "event loop" in one.error for one in built):
            self.uses_threads = False
            return await self.build_at_once(contexts)
        return built

    async def build_raw(self, context: Any) -> Any:
        """Build with no context made current, and give the exception itself where one was raised."""

        async def build() -> Any:
            try:
                made = self._call(context)
                return await made if inspect.isawaitable(made) else made
            except SurfaceError:
                raise
            except Exception as error:
                return error.with_traceback(None)

        return await asyncio.create_task(build())


def _current(context: Any) -> contextlib.AbstractContextManager[Any]:
    # Not `context.bind()`: the context whose every attribute fails is to fail in the factory, not here.
    return (
        UserExecutionContext.bind(context)
        if isinstance(context, UserExecutionContext)
        else contextlib.nullcontext()
    )


def _is_async(factory: Callable[[Any], Any]) -> bool:
    return inspect.iscoroutinefunction(factory) or inspect.iscoroutinefunction(
        getattr(factory, "__call__", None)  # noqa: B004 - the method of an instance is meant
    )
