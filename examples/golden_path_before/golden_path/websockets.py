"""Notifications over WebSocket."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from golden_path.context import UserExecutionContext, require


class Socket(Protocol):
    """The part of a WebSocket that is needed here."""

    async def send_json(self, data: Any) -> None: ...

    async def close(self, code: int = 1000) -> None: ...


class WebSocketManager:
    """The open connections."""

    def __init__(self, context: UserExecutionContext) -> None:
        self.context = context
        self._sockets: list[Socket] = []

    @property
    def is_idle(self) -> bool:
        return not self._sockets

    def add(self, socket: Socket) -> None:
        """Send what happens from now on to this connection too."""
        self._sockets.append(socket)

    def remove(self, socket: Socket) -> None:
        """Send nothing more to this connection."""
        with suppress(ValueError):
            self._sockets.remove(socket)

    async def send(self, event: dict[str, Any]) -> None:
        """Send an event to each connection; one that is broken is dropped."""
        for socket in tuple(self._sockets):
            try:
                await socket.send_json(event)
            except (RuntimeError, OSError):
                self.remove(socket)

    async def close(self) -> None:
        """Hang up on every connection, as a server does that goes away."""
        while self._sockets:
            with suppress(RuntimeError, OSError):
                await self._sockets.pop().close(1001)


_manager: WebSocketManager | None = None


def create_websocket_manager(context: UserExecutionContext) -> WebSocketManager:
    """Return the manager of the connections; it is made when it is first asked for.

    Raises:
        ValueError: The context is missing or something else.
    """
    global _manager
    if _manager is None:
        _manager = WebSocketManager(require(context))
    return _manager


class Notifications:
    """What happens, told to whom it concerns."""

    def join(self, context: UserExecutionContext, socket: Socket) -> None:
        """Connect a socket to what happens to its user."""
        create_websocket_manager(context).add(socket)

    def leave(self, context: UserExecutionContext, socket: Socket) -> None:
        """Disconnect a socket."""
        create_websocket_manager(context).remove(socket)

    async def publish(self, context: UserExecutionContext, event: dict[str, Any]) -> None:
        """Tell the user what happened."""
        await create_websocket_manager(context).send(event)

    async def close(self) -> None:
        """Hang up on everybody."""
        global _manager
        manager, _manager = _manager, None
        if manager is not None:
            await manager.close()
