"""Notifications over WebSocket: each user has a manager of that user's own connections."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from golden_path.context import UserExecutionContext, require


class Socket(Protocol):
    """The part of a WebSocket that is needed here."""

    async def send_json(self, data: Any) -> None: ...

    async def close(self, code: int = 1000) -> None: ...


class WebSocketManager:
    """The open connections of one user."""

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
        """Send an event to each connection of the user; one that is broken is dropped."""
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


def create_websocket_manager(context: UserExecutionContext) -> WebSocketManager:
    """Return a manager for the connections of one user.

    Raises:
        ValueError: The context is missing or something else.
    """
    return WebSocketManager(require(context))


class Notifications:
    """The managers of the users who are connected now."""

    def __init__(self) -> None:
        self._managers: dict[tuple[str, str], WebSocketManager] = {}

    def join(self, context: UserExecutionContext, socket: Socket) -> None:
        """Connect a socket to what happens to its user."""
        if context.key not in self._managers:
            self._managers[context.key] = create_websocket_manager(context)
        self._managers[context.key].add(socket)

    def leave(self, context: UserExecutionContext, socket: Socket) -> None:
        """Disconnect a socket; a user without one has no manager."""
        manager = self._managers.get(context.key)
        if manager is not None:
            manager.remove(socket)
            if manager.is_idle:
                del self._managers[context.key]

    async def publish(self, context: UserExecutionContext, event: dict[str, Any]) -> None:
        """Tell the user what happened, on each of the user's connections."""
        manager = self._managers.get(context.key)
        if manager is not None:
            await manager.send(event)

    async def close(self) -> None:
        """Hang up on everybody."""
        while self._managers:
            _, manager = self._managers.popitem()
            await manager.close()
