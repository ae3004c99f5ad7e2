"""Family 8: a cache or a cookie jar that stands between several users and one application."""

from __future__ import annotations

import secrets as random_tokens
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import Cookie, FastAPI, HTTPException, Response
from pydantic import BaseModel

from pytest_ssot_isolation.generation.strategies import keys, secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit
from .web import CurrentUser, WebUser, client_of, token_of


class Text(BaseModel):
    text: str


class SharedCache:
    """A caching proxy: keeps what may be kept, apart by the headers that the answer's ``Vary`` names."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._kept: dict[str, list[tuple[Mapping[str, str], Mapping[str, str], list[dict[str, Any]]]]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        address = scope["path"] + "?" + scope["query_string"].decode()
        asked = {name.decode(): value.decode() for name, value in scope["headers"]}
        if scope["method"] != "GET":
            self._kept.pop(address, None)
            await self._app(scope, receive, send)
            return
        for varies, seen, messages in self._kept.get(address, ()):
            if all(asked.get(name) == seen.get(name) for name in varies):
                for message in messages:
                    await send(message)
                return
        messages = []

        async def keep(message: dict[str, Any]) -> None:
            messages.append(message)
            await send(message)

        await self._app(scope, receive, keep)
        headers = {name.decode().lower(): value.decode() for name, value in messages[0]["headers"]}
        if messages[0]["status"] == 200 and "public" in headers.get("cache-control", ""):
            names = [name.strip().lower() for name in headers.get("vary", "").split(",") if name.strip()]
            self._kept.setdefault(address, []).append((dict.fromkeys(names, ""), asked, messages))


# -- an answer for one user that says it is for all ----------------------------------------------------------


def pages_app(*, vary: str | None) -> Any:
    app = FastAPI()
    pages: dict[tuple[str, str], str] = {}
    versions: dict[str, int] = {}

    @app.put("/pages")
    async def put(user: CurrentUser, title: str, body: Text) -> None:
        pages[user, title] = body.text
        versions[user] = versions.get(user, 0) + 1

    @app.get("/pages")
    async def get(user: CurrentUser, title: str, response: Response) -> dict[str, str]:
        if (user, title) not in pages:
            raise HTTPException(404)
        response.headers["cache-control"] = "public, max-age=60"
        if vary:
            response.headers["vary"] = vary
        return {"title": title, "text": pages[user, title]}

    return SharedCache(app)


class PageUser(WebUser):
    @operation(title=keys(), text=secrets())
    async def put(self, title: str, text: str) -> httpx.Response:
        return await self.http.put("/pages", params={"title": title}, json={"text": text})

    @operation(title=keys())
    async def get(self, title: str) -> httpx.Response:
        return await self.http.get("/pages", params={"title": title})


# -- a session that is refreshed on a page that is for all ---------------------------------------------------


def sessions_app(*, varies_on_cookie: bool) -> Any:
    """Signs users in by cookie; each page renews it. The front page is the same for all, and cached."""
    app = FastAPI()
    sessions: dict[str, str] = {}
    notes: dict[str, list[str]] = {}

    def user_of(session: str | None) -> str:
        if session not in sessions:
            raise HTTPException(401)
        return sessions[session]

    @app.post("/sign-in")
    async def sign_in(user: CurrentUser, response: Response) -> None:
        token = random_tokens.token_urlsafe(12)
        sessions[token] = user
        response.set_cookie("session", token)

    @app.get("/front")
    async def front(response: Response, session: Annotated[str | None, Cookie()] = None) -> dict[str, str]:
        response.headers["cache-control"] = "public, max-age=60"
        if session in sessions:
            response.set_cookie("session", session)
            if varies_on_cookie:
                response.headers["vary"] = "Cookie"
        return {"news": "none"}

    @app.post("/notes")
    async def note(body: Text, session: Annotated[str | None, Cookie()] = None) -> None:
        notes.setdefault(user_of(session), []).append(body.text)

    @app.get("/notes")
    async def mine(session: Annotated[str | None, Cookie()] = None) -> list[str]:
        return notes.get(user_of(session), [])

    return SharedCache(app)


class Browser(Surface[Any]):
    """A browser of one's own, which keeps the cookies that it is given."""

    opaque = ("headers.set-cookie",)
    http: httpx.AsyncClient

    async def open(self) -> AsyncIterator[None]:
        async with client_of(self.world) as self.http:
            token = token_of(self.user.user_id)
            (await self.http.post("/sign-in", headers={"authorization": token})).raise_for_status()
            yield

    @operation
    async def front(self) -> httpx.Response:
        return await self.http.get("/front")

    @operation(text=secrets())
    async def note(self, text: str) -> httpx.Response:
        return await self.http.post("/notes", json={"text": text})

    @operation
    async def notes(self) -> httpx.Response:
        return await self.http.get("/notes")


# -- one client for all users, and with it one cookie jar ----------------------------------------------------


def shop_app() -> FastAPI:
    """Somebody else's service, which tells its callers apart by cookie."""
    app = FastAPI()
    baskets: dict[str, list[str]] = {}

    @app.post("/basket")
    async def add(body: Text, response: Response, basket: Annotated[str | None, Cookie()] = None) -> None:
        if basket is None:
            basket = random_tokens.token_urlsafe(12)
            response.set_cookie("basket", basket)
        baskets.setdefault(basket, []).append(body.text)

    @app.get("/basket")
    async def look(basket: Annotated[str | None, Cookie()] = None) -> list[str]:
        return baskets.get(basket or "", [])

    return app


class OneClient:
    def __init__(self, app: FastAPI) -> None:
        self._http = client_of(app)

    def of(self, user: str) -> httpx.AsyncClient:
        return self._http

    async def close(self) -> None:
        await self._http.aclose()


class ClientOfEach:
    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._clients: dict[str, httpx.AsyncClient] = {}

    def of(self, user: str) -> httpx.AsyncClient:
        return self._clients.setdefault(user, client_of(self._app))

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


class Bot:
    """Acts at the shop for its users."""

    def __init__(self, clients: Callable[[FastAPI], OneClient | ClientOfEach]) -> None:
        self._clients = clients(shop_app())

    @classmethod
    @asynccontextmanager
    async def open(cls, clients: Callable[[FastAPI], OneClient | ClientOfEach]) -> AsyncIterator[Bot]:
        bot = cls(clients)
        try:
            yield bot
        finally:
            await bot._clients.close()

    async def buy(self, user: str, text: str) -> None:
        (await self._clients.of(user).post("/basket", json={"text": text})).raise_for_status()

    async def basket(self, user: str) -> list[str]:
        found: list[str] = (await self._clients.of(user).get("/basket")).json()
        return found


class BotUser(Surface[Bot]):
    @operation(text=secrets())
    async def buy(self, text: str) -> None:
        await self.world.buy(self.user.user_id, text)

    @operation
    async def basket(self) -> list[str]:
        return await self.world.basket(self.user.user_id)


EXHIBITS = {
    "public_without_vary": Exhibit(
        surface=PageUser,
        leaky=lambda: pages_app(vary=None),
        safe=lambda: pages_app(vary="Authorization"),
    ),
    "session_refreshed_without_vary": Exhibit(
        surface=Browser,
        leaky=lambda: sessions_app(varies_on_cookie=False),
        safe=lambda: sessions_app(varies_on_cookie=True),
    ),
    "one_cookie_jar": Exhibit(
        surface=BotUser, leaky=lambda: Bot.open(OneClient), safe=lambda: Bot.open(ClientOfEach)
    ),
}
