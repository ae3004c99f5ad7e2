"""``WebSurface``: applications over HTTP and WebSocket, right and wrong, in this process."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from pytest_ssot_isolation import (
    Refused,
    SurfaceError,
    WebSocketClosed,
    WebSurface,
    keys,
    operation,
    secrets,
)
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Verdict


class Feed:
    """Tells users what they wrote; ``mistake`` names what is wrong with it."""

    def __init__(self, mistake: str) -> None:
        self.mistake = mistake
        self.sockets: dict[str, list[WebSocket]] = {}
        self.rooms: dict[str, list[WebSocket]] = {}
        self.said: list[tuple[str, str]] = []
        self.streams: dict[str, tuple[str, list[str]]] = {}

    def join(self, user: str, socket: WebSocket) -> None:
        self.sockets.setdefault(user, []).append(socket)

    def leave(self, user: str, socket: WebSocket) -> None:
        if socket in self.sockets.get(user, ()):
            self.sockets[user].remove(socket)

    async def publish(self, user: str, text: str) -> None:
        self.said.append((user, text))
        to = [user] if self.mistake != "broadcast" else list(self.sockets)
        for each in to:
            for socket in list(self.sockets.get(each, ())):
                await socket.send_json({"text": text})

    def earlier(self, user: str) -> list[str]:
        return [text for who, text in self.said if who == user or self.mistake == "late subscriber"]


def user_of(connection: HTTPConnection) -> str:
    return bytes.fromhex(connection.headers["x-user"]).decode()


async def say(request: Request) -> Response:
    await request.app.state.feed.publish(user_of(request), (await request.json())["text"])
    return Response(status_code=204)


async def follow(socket: WebSocket) -> None:
    """Push what the user says, beginning with what was said before."""
    feed, user = socket.app.state.feed, user_of(socket)
    await socket.accept()
    feed.join(user, socket)
    try:
        for text in feed.earlier(user):
            await socket.send_json({"text": text})
        async for _ in socket.iter_text():
            pass
    finally:
        feed.leave(user, socket)


async def room(socket: WebSocket) -> None:
    """Push to all connections of a room, where a room is one user's."""
    feed, user, title = socket.app.state.feed, user_of(socket), socket.query_params["title"]
    name = title if feed.mistake == "room" else f"{user.encode().hex()} {title}"
    await socket.accept()
    members = feed.rooms.setdefault(name, [])
    members.append(socket)
    try:
        async for text in socket.iter_text():
            for member in list(members):
                await member.send_text(text)
    finally:
        members.remove(socket)


async def stream(socket: WebSocket) -> None:
    """Keep what was said under a number, by which a dropped connection is resumed."""
    feed, user = socket.app.state.feed, user_of(socket)
    number = socket.query_params.get("resume", "")
    owner, said = feed.streams.get(number, ("", []))
    await socket.accept()
    if not number or (owner != user and feed.mistake != "resume"):
        number, said = str(len(feed.streams) + 1), []
        if feed.mistake != "resume":
            number = f"{user.encode().hex()}-{sum(1 for who, _ in feed.streams.values() if who == user)}"
        feed.streams[number] = (user, said)
    await socket.send_json({"number": number, "said": said})
    async for text in socket.iter_text():
        said.append(text)
        await socket.send_json({"heard": text})


STARTED: list[str] = []


def make_app(mistake: str = "") -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        app.state.feed = Feed(mistake)
        STARTED.append("started")
        yield {"greeting": "hello"}
        STARTED.append("stopped")

    routes = [
        Route("/say", say, methods=["POST"]),
        WebSocketRoute("/follow", follow),
        WebSocketRoute("/room", room),
        WebSocketRoute("/stream", stream),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class Signed(WebSurface):
    async def sign_in(self) -> Mapping[str, str]:
        return {"x-user": self.user.user_id.encode().hex()}


class Follower(Signed):
    async def open(self) -> None:
        await super().open()
        self.feed = await self.websocket("/follow")

    @operation(text=secrets())
    async def say(self, text: str) -> httpx.Response:
        return await self.http.post("/say", json={"text": text})

    @operation
    async def reconnect(self) -> None:
        await self.feed.close()
        self.feed = await self.websocket("/follow")

    @operation
    async def lose_the_connection(self) -> None:
        await self.feed.drop()


class Member(Signed):
    @operation(title=keys(), text=secrets())
    async def speak(self, title: str, text: str) -> object:
        socket = await self.websocket(str(httpx.URL("/room", params={"title": title})))
        await socket.send(text)
        return await socket.receive()


class Resumer(Signed):
    number = ""

    async def open(self) -> None:
        await super().open()
        await self._connect()

    async def _connect(self) -> None:
        self.socket = await self.websocket(str(httpx.URL("/stream", params={"resume": self.number})))
        self.number = (await self.socket.receive())["number"]

    @operation(text=secrets())
    async def speak(self, text: str) -> None:
        await self.socket.send(text)
        await self.socket.receive()

    @operation
    async def resume(self) -> None:
        await self.socket.drop()
        await self._connect()

    @operation
    async def resume_at_one(self) -> None:
        """As somebody who guesses."""
        await self.socket.drop()
        self.number = "1"
        await self._connect()


SURFACES: dict[str, type[WebSurface]] = {
    "broadcast": Follower,
    "late subscriber": Follower,
    "room": Member,
    "resume": Resumer,
}


@pytest.mark.parametrize("mistake", SURFACES)
def test_what_is_pushed_to_the_wrong_user_is_found(check: Callable[..., Report], mistake: str) -> None:
    report = check(SURFACES[mistake], world=lambda: make_app(mistake), calls=12, examples=30)

    assert report.verdict is Verdict.LEAK
    finding = next(f for f in report.findings if f.oracle == "canary" and f.channel == "websocket")
    assert finding.victim != finding.offender
    assert len(finding.calls) <= 3, finding.calls


@pytest.mark.parametrize("surface", sorted(set(SURFACES.values()), key=repr))
def test_what_is_pushed_to_the_right_user_is_clean(check: Callable[..., Report], surface: type) -> None:
    report = check(surface, world=make_app, calls=12, examples=30)

    assert report.verdict is Verdict.CLEAN, report.findings
    assert report.controls > 0


def test_the_lifespan_is_run_once_for_each_world_also_with_several_surfaces(
    check: Callable[..., Report],
) -> None:
    worlds: list[None] = []

    def world() -> Starlette:
        worlds.append(None)
        return make_app()

    for options in ({}, {"world_scope": "check", "reset": lambda app: app.state.feed.__init__("")}):
        STARTED.clear()
        worlds.clear()
        report = check([Follower, Member], world=world, examples=5, **options)

        assert report.verdict is Verdict.CLEAN, report.findings
        assert worlds
        assert ["started"] * len(worlds) == STARTED[::2]
        assert ["stopped"] * len(worlds) == STARTED[1::2]
    assert len(worlds) == 1


class Visitor(WebSurface):
    """Makes one kind of request, and expects one answer."""

    path = "/"
    answer = ""

    @operation(text=secrets())
    async def ask(self, text: str) -> str:
        answer = (await self.http.get(self.path)).text
        assert answer == self.answer
        return text

    @operation(text=secrets())
    async def remind(self, text: str) -> str:
        return text


def served(endpoint: Any, **options: Any) -> Callable[[], Starlette]:
    return lambda: Starlette(routes=[Route("/", endpoint)], **options)


def test_requests_get_what_the_lifespan_yielded(check: Callable[..., Report]) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"greeting": "hello"}

    async def greet(request: Request) -> Response:
        return PlainTextResponse(request.state.greeting)

    class Greeted(Visitor):
        answer = "hello"

    check(Greeted, world=served(greet, lifespan=lifespan), examples=2)


def test_each_user_has_cookies_of_their_own_over_http_and_websocket(check: Callable[..., Report]) -> None:
    async def sign(request: Request) -> Response:
        answer = JSONResponse(request.cookies.get("user", "nobody"))
        answer.set_cookie("user", (await request.json())["user"])
        return answer

    async def who(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.cookies.get("user", "nobody"))

    class Cookies(Visitor):
        async def sign_in(self) -> None:
            me = self.user.user_id.encode().hex()
            assert (await self.http.post("/", json={"user": me})).json() == "nobody"

        @operation(text=secrets())
        async def ask(self, text: str) -> str:
            socket = await self.websocket("/who")
            assert await socket.receive() == self.user.user_id.encode().hex()
            return text

    def world() -> Starlette:
        return Starlette(routes=[Route("/", sign, methods=["POST"]), WebSocketRoute("/who", who)])

    report = check(Cookies, world=world, examples=5)
    assert report.never_called == ()


def test_an_exception_of_the_application_is_a_500_and_its_text_is_not_seen(
    check: Callable[..., Report],
) -> None:
    async def fail(request: Request) -> Response:
        raise LookupError("something about somebody else")

    class Failing(Visitor):
        answer = "Internal Server Error"

    check(Failing, world=served(fail), examples=2)


def test_what_the_application_sets_while_a_user_signs_in_is_gone_in_later_requests(
    check: Callable[..., Report],
) -> None:
    current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="nobody")

    async def who(request: Request) -> Response:
        answer = current.get()
        current.set("somebody")
        return PlainTextResponse(answer)

    class Current(Visitor):
        answer = "nobody"

        async def sign_in(self) -> None:
            await self.http.get("/")

    check(Current, world=served(who), examples=2)


def test_a_refused_id_is_drawn_again(check: Callable[..., Report]) -> None:
    class Choosy(Visitor):
        answer = "ok"

        async def sign_in(self) -> None:
            if not self.user.user_id.isalnum():
                raise Refused("letters and digits only")

    async def okay(_: Request) -> Response:
        return PlainTextResponse("ok")

    report = check(Choosy, world=served(okay), examples=10)

    assert report.refused_ids


def test_an_application_without_a_lifespan_is_served(check: Callable[..., Report]) -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"bare"})

    class Bare(Visitor):
        answer = "bare"

    check(Bare, world=lambda: bare, examples=2)


def test_an_application_that_cannot_start_is_told_with_its_reason(check: Callable[..., Report]) -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    async def okay(_: Request) -> Response:
        return PlainTextResponse("ok")

    with pytest.raises(SurfaceError, match=r"(?s)The application did not start: .*no database\n.*lifespan"):
        check(Visitor, world=served(okay, lifespan=lifespan))


@pytest.mark.parametrize("world", [None, {}, "app.test", "ftp://app.test"])
def test_a_world_that_is_neither_application_nor_url_is_refused(
    check: Callable[..., Report], world: object
) -> None:
    with pytest.raises(SurfaceError, match=r"Visitor is a WebSurface, and its world is .*neither an ASGI"):
        check(Visitor, world=lambda: world)


@pytest.mark.parametrize(
    ("package", "world"), [("httpx", make_app), ("websockets", lambda: "http://[::1]:9")]
)
def test_a_missing_package_is_named_with_the_extra_that_has_it(
    check: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, package: str, world: Any
) -> None:
    class Missing(Signed):
        async def sign_in(self) -> Mapping[str, str]:
            await self.websocket("/follow")
            return {}

        @operation
        async def nothing(self) -> None: ...

    monkeypatch.setattr(
        "pytest_ssot_isolation.surfaces.web.find_spec", lambda name: None if name == package else True
    )
    with pytest.raises(
        SurfaceError, match=rf'needs {package}.*\n.*pip install "pytest-ssot-isolation\[web\]"'
    ):
        check(Missing, world=world)


async def alone(app: Any, use: Callable[[Signed], Any]) -> list[tuple[object, str]]:
    """What one user of an application sees besides answers."""
    from pytest_ssot_isolation import UserExecutionContext

    seen: list[tuple[object, str]] = []
    async with Signed.enter_world(app) as world:
        surface = Signed()
        surface.world, surface.user = world, UserExecutionContext("alice")
        surface._tell = lambda value, channel: seen.append((value, channel))
        await surface.open()
        try:
            await use(surface)
        finally:
            await surface.close()
    return seen


def socket_app(endpoint: Any) -> Starlette:
    return Starlette(routes=[WebSocketRoute("/", endpoint)])


def test_messages_are_observed_in_the_order_in_which_they_came_whether_or_not_they_are_read() -> None:
    async def count(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("one")
        await socket.send_bytes(b"two")
        await socket.send_json({"three": await socket.receive_json()})
        await socket.close(4000, "enough")

    async def use(user: Signed) -> None:
        socket = await user.websocket("/")
        assert await socket.receive() == "one"
        await socket.send([3])
        assert [await socket.receive() for _ in range(2)] == [b"two", {"three": [3]}]
        with pytest.raises(WebSocketClosed, match="closed by the application with code 4000: enough") as told:
            await socket.receive()
        assert (told.value.code, socket.is_open) == (4000, False)

    seen = asyncio.run(alone(socket_app(count), use))

    assert [value for value, _ in seen] == [
        "one",
        b"two",
        {"three": [3]},
        {"closed": 4000, "reason": "enough"},
    ]
    assert {channel for _, channel in seen} == {"websocket"}


def test_a_websocket_that_is_not_accepted_says_so() -> None:
    async def refuse(socket: WebSocket) -> None:
        await socket.close(4401)

    async def fail(socket: WebSocket) -> None:
        raise LookupError

    async def use(user: Signed) -> None:
        with pytest.raises(WebSocketClosed, match="The WebSocket at / was refused with status") as told:
            await user.websocket("/")
        statuses.append(told.value.status)

    statuses: list[int | None] = []
    for endpoint in (refuse, fail):
        assert asyncio.run(alone(socket_app(endpoint), use)) == []
    assert statuses == [403, 500]


def test_the_application_learns_how_a_connection_ended() -> None:
    codes = []

    async def listen(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect as end:
            codes.append(end.code)

    async def use(user: Signed) -> None:
        await (await user.websocket("/")).close(4001)
        await (await user.websocket("/")).drop()
        await user.websocket("/")

    asyncio.run(alone(socket_app(listen), use))

    assert codes == [4001, 1006, 1000]


def test_what_is_sent_to_a_closed_connection_is_refused() -> None:
    async def listen(socket: WebSocket) -> None:
        await socket.accept()
        async for _ in socket.iter_text():
            pass

    async def use(user: Signed) -> None:
        socket = await user.websocket("/")
        await socket.close()
        with pytest.raises(WebSocketClosed, match=r"is closed\.\nTo fix this, open another"):
            await socket.send("too late")

    asyncio.run(alone(socket_app(listen), use))


def test_the_names_are_there_without_loading_a_client() -> None:
    import subprocess

    script = "import sys; from pytest_ssot_isolation import WebSurface; print({'httpx', 'websockets'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert told == "set()\n"


def test_what_an_application_never_fetched_is_told_in_no_later_test(
    check: Callable[..., Report], caplog: pytest.LogCaptureFixture
) -> None:
    left: list[object] = []

    class Careless(WebSurface):
        @operation
        async def leave(self) -> None:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(OSError("nobody asks for it"))
            left.append(future)

    check(Careless, world=make_app, examples=2, calls=4)
    caplog.clear()
    assert left
    left.clear()
    gc.collect()

    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
