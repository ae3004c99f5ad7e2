"""Families 2 and 7, on a redis server: a reply that was left behind, and a pattern made of a user's id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.asyncio.connection import Connection

from pytest_ssot_isolation.generation.strategies import keys, secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit

if TYPE_CHECKING:
    from .servers import RedisDatabase

# -- connections that are kept for reuse, whatever became of the last reply ----------------------------------


class Drafts:
    """Keeps redis-py's connections in a stack of its own: its pool asks the socket before each use."""

    closes_on_error = True

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []

    async def _command(self, *words: str) -> Any:
        connection = self._idle.pop() if self._idle else self._new()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command(*words)
            return await connection.read_response(disconnect_on_error=self.closes_on_error)
        finally:
            self._idle.append(connection)

    async def warm_up(self) -> None:
        """Connect before the first request comes."""
        for connection in (self._new(), self._new()):
            await connection.connect()  # type: ignore[no-untyped-call]
            self._idle.append(connection)

    def _new(self) -> Connection:
        return Connection(port=self._port, decode_responses=True)

    async def put(self, user: str, title: str, text: str) -> None:
        await self._command("HSET", f"drafts:{user}", title, text)

    async def get(self, user: str, title: str) -> str | None:
        found: str | None = await self._command("HGET", f"drafts:{user}", title)
        return found

    async def close(self) -> None:
        for connection in self._idle:
            await connection.disconnect(nowait=True)


class DraftsThatStayConnected(Drafts):
    closes_on_error = False  # An error of one command is no reason to connect anew.


def drafts(kind: type[Drafts]) -> Callable[[RedisDatabase], Any]:
    def make(database: RedisDatabase) -> Any:
        @asynccontextmanager
        async def world() -> AsyncIterator[Drafts]:
            made = kind(database.port)
            await made.warm_up()
            try:
                yield made
            finally:
                await made.close()

        return world()

    return make


class Author(Surface[Drafts]):
    @operation(title=keys(), text=secrets())
    async def put(self, title: str, text: str) -> None:
        await self.world.put(self.user.user_id, title, text)

    @operation(title=keys())
    async def get(self, title: str) -> str | None:
        return await self.world.get(self.user.user_id, title)


# -- all keys of a user, by a pattern ------------------------------------------------------------------------


class Bookmarks:
    """A key for each bookmark, and a set of each user's keys."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def mark(self, user: str, title: str, url: str) -> None:
        key = f"mark:{user}:{title}"
        await self._client.hset(f"marks:{user}", key, url)
        await self._client.set(key, url)

    async def listing(self, user: str) -> list[str]:
        return sorted(str(url) for url in await self._client.hvals(f"marks:{user}"))


class BookmarksByPattern(Bookmarks):
    async def listing(self, user: str) -> list[str]:
        found = [key async for key in self._client.scan_iter(match=f"mark:{user}:*")]
        return sorted(str(url) for url in await self._client.mget(found) if url) if found else []


def bookmarks(kind: type[Bookmarks]) -> Callable[[RedisDatabase], Any]:
    def make(database: RedisDatabase) -> Any:
        @asynccontextmanager
        async def world() -> AsyncIterator[Bookmarks]:
            async with Redis(port=database.port, decode_responses=True) as client:
                yield kind(client)

        return world()

    return make


class Reader(Surface[Bookmarks]):
    @operation(title=keys(), url=secrets("url"))
    async def mark(self, title: str, url: str) -> None:
        await self.world.mark(self.user.user_id, title, url)

    @operation
    async def listing(self) -> list[str]:
        return await self.world.listing(self.user.user_id)


EXHIBITS = {
    "reply_left_in_redis_connection": Exhibit(
        surface=Author,
        leaky=drafts(DraftsThatStayConnected),
        safe=drafts(Drafts),
        options={"faults": ("cancel",)},
    ),
    "redis_pattern_with_an_id": Exhibit(
        surface=Reader, leaky=bookmarks(BookmarksByPattern), safe=bookmarks(Bookmarks)
    ),
}
