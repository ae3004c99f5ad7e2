"""``WebSurface``: a user of a web application, over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import contextvars
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from pytest_ssot_isolation.errors import SurfaceError
from pytest_ssot_isolation.surfaces.base import Surface

if TYPE_CHECKING:
    import httpx

    from pytest_ssot_isolation.surfaces.sockets import WebSocket

# What a client sets for each HTTP request of its own, and what a WebSocket sets otherwise.
_NOT_THE_USERS = frozenset(
    {"host", "accept", "accept-encoding", "connection", "user-agent", "content-length"}
)


class WebSurface(Surface[Any]):
    """What one signed-in user of a web application can do.

    The world is an ASGI application, which is called in this process and whose lifespan is run once for each
    world; or the base URL of a running server, such as ``"http://127.0.0.1:8000"``.

    Attributes:
        base_url: Under which name an application in this process is called.
        http: An ``httpx.AsyncClient`` of this user alone, with cookies of its own.
    """

    base_url: ClassVar[str] = "http://app.test"
    http: httpx.AsyncClient
    _sockets: list[WebSocket]
    _is_ready = False

    async def sign_in(self) -> Mapping[str, str] | None:
        """Sign this user in, with ``self.http`` where a request is needed for it.

        Returns:
            Headers to send with each request and WebSocket of this user; None or empty where the
            cookies say it all.

        Raises:
            Refused: The application does not accept the user's id.
        """
        return None

    async def websocket(
        self, path: str, *, headers: Mapping[str, str] | None = None, subprotocols: Sequence[str] = ()
    ) -> WebSocket:
        """Open a WebSocket as this user, with the user's headers and cookies.

        Each message that is pushed over it is observed on the channel ``websocket`` in the order in which
        it came. It is closed with the session, if it is open until then.

        Args:
            path: Its path, with the query.
            headers: Further headers.
            subprotocols: Those to offer.

        Raises:
            WebSocketClosed: The application does not accept it.
        """
        from pytest_ssot_isolation.surfaces.socket_in_process import SocketInProcess
        from pytest_ssot_isolation.surfaces.socket_over_network import SocketOverNetwork

        request = self.http.build_request("GET", path, headers=dict(headers or {}))
        url = str(request.url.copy_with(scheme="wss" if request.url.scheme == "https" else "ws"))
        socket: SocketInProcess | SocketOverNetwork
        if isinstance(self.world, str):
            _require("websockets", type(self))
            own = {name: value for name, value in request.headers.items() if name not in _NOT_THE_USERS}
            socket = SocketOverNetwork(url, own, subprotocols, self._pushed)
        else:
            raw = [(name.lower(), value) for name, value in request.headers.raw]
            socket = SocketInProcess(self.world, url, raw, subprotocols, self._pushed)
        self._sockets.append(socket)
        await socket.open()
        return socket

    async def open(self) -> None:
        """Nothing more: the client is made and the user signed in before, so a surface may do here what it likes."""
        await self._begin()

    async def _begin(self) -> None:
        """Make the client, and sign in; once."""
        if self._is_ready:
            return
        self._is_ready = True
        self._sockets = []
        self.http = self._client()
        try:
            # In a context of its own: what an application in this process sets while it signs somebody in
            # is not there in later requests, as it would not be in a server.
            signing_in = asyncio.create_task(self.sign_in(), context=contextvars.copy_context())
            self.http.headers.update(await signing_in or {})
        except BaseException:
            await self._end()
            raise

    async def close(self) -> None:
        """Nothing more: see ``_end``, which comes after it."""
        await self._end()

    async def _end(self) -> None:
        """Close what is open, after all has come that was pushed; once."""
        if not self._is_ready:
            return
        self._is_ready = False
        for socket in self._sockets:
            await socket.settle()
        for socket in self._sockets:
            await socket.close()
        for socket in self._sockets:
            await socket.end()
        await self.http.aclose()

    @classmethod
    @asynccontextmanager
    async def enter_world(cls, world: Any) -> AsyncIterator[Any]:
        """Run the lifespan of an application in this process."""
        if isinstance(world, str) and urlsplit(world).scheme in ("http", "https") and urlsplit(world).netloc:
            yield world
            return
        if isinstance(world, str) or not callable(world):
            raise SurfaceError(
                f"{cls.__qualname__} is a WebSurface, and its world is {world!r}, which is neither an ASGI "
                "application nor the URL of a server.\n"
                "To fix this, return one of them from the factory: isolation.check(..., world=lambda: "
                'create_app()), or world=lambda: "http://127.0.0.1:8000".'
            )
        from pytest_ssot_isolation.surfaces import asgi

        async with asgi.lifespan(world):
            yield world

    def _client(self) -> httpx.AsyncClient:
        _require("httpx", type(self))
        import httpx

        if isinstance(self.world, str):
            # To load the certificates of the system takes longer than most requests.
            verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if self.world.startswith("http:") else True

            class Transport(httpx.AsyncHTTPTransport):
                """Says where it looked for a server in vain, which httpx does not."""

                async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                    try:
                        return await super().handle_async_request(request)
                    except httpx.ConnectError as error:
                        where = f"{request.url.scheme}://{request.url.netloc.decode()}"
                        text = f"No server could be reached at {where}: {error}"
                        todo = "Start it before the tests, or correct the URL"
                        raise httpx.ConnectError(f"{text}. {todo}", request=request) from error

            return httpx.AsyncClient(
                base_url=self.world,
                transport=Transport(verify=verify, trust_env=False),
                trust_env=False,
                timeout=10.0,
            )
        from pytest_ssot_isolation.surfaces import asgi

        # A server answers 500 where the application raises: nobody outside sees the exception.
        transport = httpx.ASGITransport(asgi.with_state(self.world), raise_app_exceptions=False)
        return httpx.AsyncClient(base_url=self.base_url, transport=transport)

    def _pushed(self, message: object) -> None:
        self.saw(message, channel="websocket")


def _require(package: str, cls: type[WebSurface]) -> None:
    if find_spec(package) is None:
        raise SurfaceError(
            f"{cls.__qualname__} is a WebSurface, which needs {package}, and that is not installed.\n"
            'To fix this: pip install "pytest-ssot-isolation[web]"'
        )
