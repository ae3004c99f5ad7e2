"""A WebSocket to a running server, over a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pytest_ssot_isolation.errors import WebSocketClosed
from pytest_ssot_isolation.surfaces.sockets import ENDING_PATIENCE, Saw, WebSocket


class SocketOverNetwork(WebSocket, asyncio.Protocol):
    """A WebSocket to a running server.

    No task reads from it, so none is parked while nothing comes: a schedule would wait for it at every step.

    Args:
        url: Where it is opened, with the scheme ``ws`` or ``wss``.
        headers: The user's.
        subprotocols: Those that are offered.
        saw: See ``WebSocket``.
    """

    def __init__(self, url: str, headers: Mapping[str, str], subprotocols: Sequence[str], saw: Saw) -> None:
        from websockets.client import ClientProtocol
        from websockets.uri import parse_uri

        super().__init__(urlsplit(url).path, saw)
        self._uri = parse_uri(url)
        self._protocol: Any = ClientProtocol(self._uri, subprotocols=list(subprotocols) or None)  # type: ignore[arg-type]
        self._headers = headers
        self._parts: list[bytes] = []
        self._is_text = True
        self._waiters: list[asyncio.Future[None]] = []
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs = 0

    async def open(self) -> None:
        """Connect.

        Raises:
            OSError: There is no such server.
            WebSocketClosed: The server does not accept it.
        """
        from websockets.protocol import State

        await asyncio.get_running_loop().create_connection(
            lambda: self, self._uri.host, self._uri.port, ssl=True if self._uri.secure else None
        )
        request = self._protocol.connect()
        request.headers.update(self._headers)
        self._protocol.send_request(request)
        self._flush()
        while self._protocol.state is State.CONNECTING:
            await self._something_came()
        if self._closed is not None and not self._gone.done():
            self._transport.close()
        if self._closed is not None:
            raise self._closed

    @property
    def subprotocol(self) -> str | None:
        """The one that was agreed on."""
        agreed: str | None = self._protocol.subprotocol
        return agreed

    async def settle(self) -> None:
        if self._closed is not None:
            return
        # A connection keeps its order: with the answer all has come that was pushed before it.
        before = self._pongs
        self._protocol.send_ping(b"ssot")
        self._flush()
        try:
            async with asyncio.timeout(ENDING_PATIENCE):
                while self._pongs == before and self._closed is None:
                    await self._something_came()
        except TimeoutError:
            return  # A server that answers no ping is none to wait for.

    async def end(self) -> None:
        if not self._gone.done():
            await asyncio.wait({self._gone}, timeout=ENDING_PATIENCE)
            self._transport.abort()

    # -- what the event loop calls -------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._take()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        self._take()
        self._closed_by_other_end(1006, "")
        if not self._gone.done():
            self._gone.set_result(None)
        self._tell()

    def _take(self) -> None:
        from websockets.http11 import Response

        for event in self._protocol.events_received():
            if isinstance(event, Response):
                if self._protocol.handshake_exc is not None:
                    self._end(WebSocketClosed.refused(self.path, event.status_code))
                self._tell()
            else:
                self._frame(event)
        self._flush()

    def _frame(self, frame: Any) -> None:
        from websockets.frames import Opcode

        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text, self._parts = frame.opcode is Opcode.TEXT, [frame.data]
        elif frame.opcode is Opcode.CONT:
            self._parts.append(frame.data)
        elif frame.opcode is Opcode.CLOSE:
            told = self._protocol.close_rcvd
            self._closed_by_other_end(int(told.code), told.reason)
            return
        elif frame.opcode is Opcode.PONG:
            self._pongs += 1
            self._tell()
            return
        else:
            return
        if frame.fin:
            whole = b"".join(self._parts)
            self._came(whole.decode() if self._is_text else whole)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if self._transport.is_closing():
                return
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()

    async def _send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._flush()

    async def _something_came(self) -> None:
        # A bare future: only the outside world can end this wait.
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)

    def _tell(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _hang_up(self, code: int) -> None:
        self._protocol.send_close(code)
        self._flush()

    def _cut(self) -> None:
        self._transport.abort()
