"""WebSockets of one user: what is common to those in this process and those over a network."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from pytest_ssot_isolation.errors import WebSocketClosed

RECEIVE_PATIENCE = 5.0
"""Seconds to wait for a pushed message; ``asyncio.timeout`` around it makes them fewer."""

ENDING_PATIENCE = 1.0
"""Seconds that the other end may take to let go of a connection."""

Saw = Callable[[object], None]


class WebSocket(ABC):
    """An open WebSocket of one user; what is pushed over it is observed as it comes, whether or not it is read.

    A text that holds a JSON object or list is given, and observed, as such.

    Args:
        path: The path that was opened.
        saw: Takes each message down as seen by the user.
    """

    def __init__(self, path: str, saw: Saw) -> None:
        self.path = path
        self._saw = saw
        self._unread: deque[object] = deque()
        self._closed: WebSocketClosed | None = None

    @property
    def is_open(self) -> bool:
        """Whether neither end has closed it."""
        return self._closed is None

    async def send(self, message: object) -> None:
        """Send a message.

        Args:
            message: A text, bytes, or anything else as JSON.

        Raises:
            WebSocketClosed: It is closed.
        """
        if self._closed is not None:
            raise self._closed
        await self._send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def receive(self) -> Any:
        """Return the next message that was pushed and not received yet.

        Raises:
            TimeoutError: None came within 5 s.
            WebSocketClosed: It is closed, and all that came before was received.
        """
        async with asyncio.timeout(RECEIVE_PATIENCE):
            while not self._unread:
                if self._closed is not None:
                    raise self._closed
                await self._something_came()
        return self._unread.popleft()

    async def close(self, code: int = 1000) -> None:
        """Hang up, with notice."""
        if self._closed is None:
            self._end(WebSocketClosed.by_us(self.path))
            self._hang_up(code)

    async def drop(self) -> None:
        """Hang up without notice, as a lost connection does."""
        if self._closed is None:
            self._end(WebSocketClosed.by_us(self.path))
            self._cut()

    @abstractmethod
    async def settle(self) -> None:
        """Let come what was pushed already."""

    @abstractmethod
    async def end(self) -> None:
        """Wait until the other end has let go."""

    @abstractmethod
    async def _send(self, message: str | bytes) -> None: ...

    @abstractmethod
    async def _something_came(self) -> None: ...

    @abstractmethod
    def _tell(self) -> None: ...

    @abstractmethod
    def _hang_up(self, code: int) -> None: ...

    @abstractmethod
    def _cut(self) -> None: ...

    def _came(self, message: str | bytes) -> None:
        if self._closed is None:
            read = _read(message)
            self._saw(read)
            self._unread.append(read)
            self._tell()

    def _closed_by_other_end(self, code: int, reason: str) -> None:
        if self._closed is None:
            self._saw({"closed": code, "reason": reason})
            self._end(WebSocketClosed.by_server(self.path, code, reason))

    def _end(self, how: WebSocketClosed) -> None:
        self._closed = how
        self._tell()


def _read(message: str | bytes) -> object:
    if isinstance(message, str) and message[:1] in ("{", "["):
        try:
            return json.loads(message)
        except ValueError:
            return message
    return message
