"""WebSockets of one user: to an application in this process, or over a connection to a running server."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from pytest_ssot_isolation.errors import WebSocketClosed
from pytest_ssot_isolation.surfaces import asgi

RECEIVE_PATIENCE = 5.0
"""Seconds to wait for a pushed message; ``asyncio.timeout`` around it makes them fewer."""

ENDING_PATIENCE = 1.0
"""Seconds that the other end may take to let go of a connection."""

# Turns of the loop that an application gets, when all calls were made, to push what it has still to push.
SETTLING = 20

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


class SocketInProcess(WebSocket):
    """A WebSocket scope of an ASGI application, driven as a server would.

    Args:
        app: The running application.
        url: Where it is opened.
        headers: The user's.
        subprotocols: Those that are offered.
        saw: See ``WebSocket``.
    """

    def __init__(
        self, app: asgi.Application, url: str, headers: Sequence[tuple[bytes, bytes]],
        subprotocols: Sequence[str], saw: Saw,
    ) -> None:  # fmt: skip
        parts = urlsplit(url)
        super().__init__(parts.path, saw)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        self._app = app
        self._scope: asgi.Message = {
            "type": "websocket",
            "asgi": dict(asgi.ASGI),
            "http_version": "1.1",
            "scheme": parts.scheme,
            "path": unquote(parts.path),
            "raw_path": parts.path.encode("ascii"),
            "root_path": "",
            "query_string": parts.query.encode("ascii"),
            "headers": list(headers),
            "subprotocols": list(subprotocols),
            "client": ("127.0.0.1", 123),
            "server": (parts.hostname, port),
            "state": asgi.state_of(app),
        }
        self._to_app: asyncio.Queue[asgi.Message] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._is_accepted = False
        self._task: asyncio.Task[None] | None = None
        self.subprotocol: str | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            WebSocketClosed: The application does not accept it.
        """
        self._to_app.put_nowait({"type": "websocket.connect"})
        # A task of this user, as a server has one for each connection: what it waits for is the user's lane.
        self._task = asyncio.create_task(self._run())
        while not self._is_accepted:
            if self._closed is not None:
                raise self._closed
            await self._something_came()

    async def settle(self) -> None:
        for _ in range(SETTLING):
            await asyncio.sleep(0)

    async def end(self) -> None:
        if self._task is None or self._task.done():
            return
        done, _ = await asyncio.wait({self._task}, timeout=ENDING_PATIENCE)
        if not done:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=ENDING_PATIENCE)

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._from_app)
        except Exception:
            # What a server answers for an application that fails; its text is for the log only.
            self._let_go(1011)
            return
        self._let_go(1000)

    def _let_go(self, code: int) -> None:
        if self._is_accepted:
            self._closed_by_other_end(code, "")
        elif self._closed is None:
            self._end(WebSocketClosed.refused(self.path, 403 if code == 1000 else 500))

    async def _from_app(self, message: asgi.Message) -> None:
        if self._closed is not None:
            raise OSError("the client has hung up")  # as the protocol asks of servers
        kind = message["type"]
        if kind == "websocket.accept":
            self._is_accepted = True
            self.subprotocol = message.get("subprotocol")
            self._tell()
        elif kind == "websocket.send":
            text = message.get("text")
            self._came(text if text is not None else bytes(message["bytes"]))
        elif kind == "websocket.close" and self._is_accepted:
            self._closed_by_other_end(message.get("code", 1000), message.get("reason") or "")
        elif kind == "websocket.close":
            self._end(WebSocketClosed.refused(self.path, 403))

    async def _send(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        self._to_app.put_nowait({"type": "websocket.receive", kind: message})

    async def _something_came(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()

    def _hang_up(self, code: int) -> None:
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})

    def _cut(self) -> None:
        self._hang_up(1006)


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
