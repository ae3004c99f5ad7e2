"""``WebSurface`` by URL: a real server on loopback, with connections and WebSockets of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from pytest_ssot_isolation import UserExecutionContext, WebSocketClosed, WebSurface, operation, secrets
from pytest_ssot_isolation.errors import InconclusiveCheck, LeakFound
from pytest_ssot_isolation.harness import Isolation
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Verdict
from pytest_ssot_isolation.options import Settings


def make_app(*, tells_all: bool = False) -> Starlette:
    """Say something, and each of your connections is told; or everybody's."""
    sockets: dict[str, list[WebSocket]] = {}

    async def say(request: Request) -> Response:
        user, text = request.headers["x-user"], (await request.json())["text"]
        for name in list(sockets) if tells_all else [user]:
            for one in list(sockets.get(name, ())):
                await one.send_json({"text": text})
        return Response(status_code=204)

    async def follow(one: WebSocket) -> None:
        if "x-user" not in one.headers:
            await one.close(4401)
            return
        await one.accept()
        mine = sockets.setdefault(one.headers["x-user"], [])
        mine.append(one)
        await one.send_text("ready")
        try:
            async for text in one.iter_text():
                if text == "hang up":
                    await one.send_bytes(b"\x00" * 100_000)
                    await one.close(4000, "as you wish")
        except (RuntimeError, WebSocketDisconnect):
            pass
        finally:
            mine.remove(one)

    return Starlette(routes=[Route("/say", say, methods=["POST"]), WebSocketRoute("/follow", follow)])


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Runs an application in a server of its own, in a thread; gives the URL."""
    running = []

    def start(app: Any) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="websockets-sansio"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        running.append((server, thread, listening))
        thread.start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for server, thread, listening in running:
        server.should_exit = True
        thread.join(10)
        listening.close()
        assert not thread.is_alive()


class Speaker(WebSurface):
    async def sign_in(self) -> dict[str, str]:
        return {"x-user": self.user.user_id.encode().hex()}

    async def open(self) -> None:
        await super().open()
        await self._follow()

    async def _follow(self) -> None:
        self.feed = await self.websocket("/follow")
        assert await self.feed.receive() == "ready"

    @operation(text=secrets(), weight=3)
    async def say(self, text: str) -> Any:
        await self.http.post("/say", json={"text": text})
        return await self.feed.receive()

    @operation
    async def reconnect(self) -> None:
        await self.feed.close()
        await self._follow()


def check(url: str, tmp_path: Path) -> Report:
    isolation = Isolation(settings=Settings(seed=7), test_id="test_feed.py::test_feed", root=tmp_path)
    try:
        return isolation.check(Speaker, world=lambda: url, reset=lambda _: None, calls=8, examples=6)
    except (LeakFound, InconclusiveCheck) as found:
        return found.report


def test_a_message_pushed_to_everybody_is_found_over_real_connections(
    serve: Callable[[Any], str], tmp_path: Path
) -> None:
    report = check(serve(make_app(tells_all=True)), tmp_path)

    assert report.verdict is Verdict.LEAK
    finding = next(f for f in report.findings if f.oracle == "canary")
    assert finding.victim != finding.offender


def test_a_server_that_pushes_to_the_right_user_is_clean(serve: Callable[[Any], str], tmp_path: Path) -> None:
    report = check(serve(make_app()), tmp_path)

    assert report.verdict is Verdict.CLEAN, report.findings
    assert report.controls > 0
    assert report.never_called == ()


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    class Reader(WebSurface):
        @operation
        async def read(self) -> Any:
            return await self.http.get("/")

    isolation = Isolation(settings=Settings(seed=7), test_id="test_feed.py::test_feed", root=tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InconclusiveCheck) as raised:
            isolation.check(Reader, world=lambda: url, reset=lambda _: None, examples=1, calls=4)

    told = " ".join(str(raised.value).split())
    assert f"No server could be reached at {url}: " in told
    assert "Start it before the tests, or correct the URL" in told


def test_one_user_over_a_real_connection(serve: Callable[[Any], str]) -> None:
    seen: list[tuple[str, object]] = []

    async def use(url: str) -> None:
        user = Speaker()
        user.world, user.user = url, UserExecutionContext("alice")
        user._tell = lambda value, channel: seen.append((channel, value))
        await user.open()
        other = await user.websocket("/follow")
        await user.say(text="hello")
        await other.send("hang up")
        assert [await other.receive() for _ in range(2)] == ["ready", {"text": "hello"}]
        assert await other.receive() == b"\x00" * 100_000
        with pytest.raises(WebSocketClosed, match="closed by the application with code 4000: as you wish"):
            await other.receive()
        del user.http.headers["x-user"]
        with pytest.raises(WebSocketClosed, match="refused with status 403"):
            await user.websocket("/follow")
        await user.feed.drop()
        await user.close()

    asyncio.run(use(serve(make_app())))

    assert {channel for channel, _ in seen} == {"websocket"}
    values = [value for _, value in seen]
    assert values[:2] == ["ready", "ready"]
    assert values[2:4] == [{"text": "hello"}] * 2
    assert values[4:] == [b"\x00" * 100_000, {"closed": 4000, "reason": "as you wish"}]
