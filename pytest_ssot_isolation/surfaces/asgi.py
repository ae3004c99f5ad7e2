"""An ASGI application in this process: its lifespan, and the scope that its requests begin with."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from pytest_ssot_isolation.errors import SurfaceError

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

PATIENCE = 10.0
"""Seconds that an application may take to start, and to stop."""

ASGI = {"version": "3.0", "spec_version": "2.4"}

# What a lifespan yielded for its requests, by the application that runs now: the protocol hands it over by way
# of the server, and here the server is in several places.
_STATES: dict[int, dict[str, Any]] = {}


@asynccontextmanager
async def lifespan(app: Application) -> AsyncIterator[None]:
    """Start an application, and stop it afterwards.

    Raises:
        SurfaceError: It could not start, could not stop, or took too long over either.
    """
    running = _Lifespan(app)
    await running.start()
    _STATES[id(app)] = running.state
    try:
        yield
    finally:
        del _STATES[id(app)]
        await running.stop()


def state_of(app: Application) -> dict[str, Any]:
    """What a request to the application is given of its lifespan: a copy, as the protocol asks for."""
    return dict(_STATES.get(id(app), {}))


def with_state(app: Application) -> Application:
    """The application, with what its lifespan yielded in the scope of each request."""

    async def called(scope: Message, receive: Any, send: Any) -> None:
        scope["state"] = state_of(app)
        await app(scope, receive, send)

    return called


class _Lifespan:
    """The lifespan protocol from the server's side, in a task of its own: what is entered in it is left in it."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._asked = False
        self._answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        self._to_app.put_nowait({"type": "lifespan.startup"})
        # A context of its own: what the application sets while it starts is no user's.
        self._task = asyncio.create_task(self._run(), context=contextvars.Context())
        answer = await self._answered("start")
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            raise _failed("start", answer.get("message", ""))

    async def stop(self) -> None:
        if self._task.done():
            return
        self._answer = asyncio.get_running_loop().create_future()
        self._to_app.put_nowait({"type": "lifespan.shutdown"})
        answer = await self._answered("stop")
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            raise _failed("stop", answer.get("message", ""))
        await asyncio.wait({self._task}, timeout=PATIENCE)

    async def _answered(self, what: str) -> Message | None:
        """What the application says; None where it has no lifespan."""
        either: set[asyncio.Future[Any]] = {self._answer, self._task}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        if self._answer.done():
            return self._answer.result()
        if not self._task.done():
            self._task.cancel()
            raise _failed(what, f"it had not answered after {PATIENCE:g} s")
        error = None if self._task.cancelled() else self._task.exception()
        if error is not None and self._asked:
            raise _failed(what, f"{type(error).__name__}: {error}") from error
        return None  # It went away without asking for anything: there is no lifespan in it.

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        await self._app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        self._asked = True
        return await self._to_app.get()

    async def _send(self, message: Message) -> None:
        if not self._answer.done():
            self._answer.set_result(message)


def _failed(what: str, why: str) -> SurfaceError:
    return SurfaceError(
        f"The application did not {what}: {why.strip()}\n"
        "To fix this, mend its lifespan; it is run once for each world, in the harness's own event loop."
    )
