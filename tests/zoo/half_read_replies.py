"""Family 2: the reply to a request that was given up, read by whoever uses the connection next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, unquote

from pytest_ssot_isolation.generation.strategies import keys, secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit


class StoreServer:
    """Answers lines over TCP: ``SET user title text`` and ``GET user title``, in the order in which they came."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], str] = {}
        self._open: set[asyncio.StreamWriter] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while line := await reader.readline():
                verb, *words = (unquote(word) for word in line.decode().split())
                if verb == "SET":
                    self._rows[words[0], words[1]] = words[2]
                    answer = "OK"
                else:
                    answer = self._rows.get((words[0], words[1]), "-")
                writer.write(quote(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for writer in list(self._open):
                writer.close()


class Link:
    """One connection of the pool."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.is_busy = False

    async def ask(self, *words: str) -> str:
        self.is_busy = True
        self._writer.write(" ".join(quote(word, safe="") for word in words).encode() + b"\n")
        await self._writer.drain()
        line = await self._reader.readline()
        self.is_busy = False
        return unquote(line.decode().strip())

    def close(self) -> None:
        self._writer.close()


class Client:
    """Keeps links for reuse; one whose reply is still to come is thrown away."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Link] = []

    async def _take(self) -> Link:
        if self._idle:
            return self._idle.pop()
        return Link(*await asyncio.open_connection("127.0.0.1", self._port))

    def _give_back(self, link: Link) -> None:
        if link.is_busy:
            link.close()
        else:
            self._idle.append(link)

    async def ask(self, *words: str) -> str:
        link = await self._take()
        try:
            return await link.ask(*words)
        finally:
            self._give_back(link)

    def close(self) -> None:
        for link in self._idle:
            link.close()


class ClientThatReusesAll(Client):
    def _give_back(self, link: Link) -> None:
        self._idle.append(link)


class ClientWithTimeout(Client):
    async def ask(self, *words: str) -> str:
        async with asyncio.timeout(0.5):
            return await super().ask(*words)


class ClientWithTimeoutThatReusesAll(ClientThatReusesAll):
    async def ask(self, *words: str) -> str:
        async with asyncio.timeout(0.5):
            return await super().ask(*words)


class ClientThatRetries(Client):
    """Asks once more when the first answer did not come in time."""

    async def ask(self, *words: str) -> str:
        link = await self._take()
        try:
            try:
                async with asyncio.timeout(0.5):
                    return await link.ask(*words)
            except TimeoutError:
                link = await self._again(link)
                return await link.ask(*words)
        finally:
            self._give_back(link)

    async def _again(self, link: Link) -> Link:
        link.close()
        return await self._take()


class ClientThatRetriesOnTheSameLink(ClientThatRetries):
    async def _again(self, link: Link) -> Link:
        return link


def store(client: type[Client]) -> Callable[[], Any]:
    @asynccontextmanager
    async def world() -> AsyncIterator[Client]:
        async with StoreServer().listening() as port:
            made = client(port)
            try:
                yield made
            finally:
                made.close()

    return world


class StoreUser(Surface[Client]):
    @operation(title=keys(), text=secrets())
    async def set(self, title: str, text: str) -> str:
        return await self.world.ask("SET", self.user.user_id, title, text)

    @operation(title=keys())
    async def get(self, title: str) -> str:
        return await self.world.ask("GET", self.user.user_id, title)


EXHIBITS = {
    "reused_after_cancel": Exhibit(
        surface=StoreUser,
        leaky=store(ClientThatReusesAll),
        safe=store(Client),
        options={"faults": ("cancel",)},
    ),
    "reused_after_timeout": Exhibit(
        surface=StoreUser,
        leaky=store(ClientWithTimeoutThatReusesAll),
        safe=store(ClientWithTimeout),
        options={"faults": ("timeout",)},
    ),
    "retry_reads_the_old_reply": Exhibit(
        surface=StoreUser,
        leaky=store(ClientThatRetriesOnTheSameLink),
        safe=store(ClientThatRetries),
        options={"faults": ("cancel", "timeout")},
    ),
}
