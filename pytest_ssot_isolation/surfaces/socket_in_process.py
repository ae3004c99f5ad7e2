"""A WebSocket to an ASGI application in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from pytest_ssot_isolation.errors import WebSocketClosed
from pytest_ssot_isolation.surfaces import asgi
from pytest_ssot_isolation.surfaces.sockets import ENDING_PATIENCE, Saw, WebSocket

# Turns of the loop that an application gets, when all calls were made, to push what it has still to push.
SETTLING = 20


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

    async def close(self, code: int = 1000) -> None:
        await super().close(code)
        await self._let_notice()

    async def drop(self) -> None:
        await super().drop()
        await self._let_notice()

    async def _let_notice(self) -> None:
        """Let the application see that nobody is there before this user goes on.

        Otherwise it would be a matter of turns among this user's own tasks whether the next request still
        meets the old connection, and a comparison would hold that against others. Theirs may meet it.
        """
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=ENDING_PATIENCE)

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
