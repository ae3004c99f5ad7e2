"""Family 3: an object that served one request, and still knows of it in the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pytest_ssot_isolation.generation.strategies import keys, secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit

# -- the environment of a request, kept by a background job --------------------------------------------------


@dataclass
class Environment:
    user: str = ""
    text: str = ""


class Site:
    """Handles a request at a time in each worker; the index is brought up to date in the background."""

    def __init__(self) -> None:
        self._environments = [Environment()]
        self._index: dict[str, list[str]] = {}
        self._jobs: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Site]:
        try:
            yield self
        finally:
            for job in self._jobs:
                job.cancel()

    def for_later(self, environment: Environment) -> Environment:
        return Environment(environment.user, environment.text)

    async def post(self, user: str, text: str) -> None:
        environment = self._environments.pop() if self._environments else Environment()
        environment.user, environment.text = user, text
        job = asyncio.create_task(self._reindex(self.for_later(environment)))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        self._environments.append(environment)

    async def _reindex(self, environment: Environment) -> None:
        text = environment.text
        await asyncio.sleep(0.01)
        self._index.setdefault(environment.user, []).append(text)

    async def mine(self, user: str) -> list[str]:
        await asyncio.sleep(0.05)  # a page that waits for the index
        return list(self._index.get(user, ()))


class SiteWithOneEnvironment(Site):
    def for_later(self, environment: Environment) -> Environment:
        return environment


class Poster(Surface[Site]):
    order_free = ("mine:*",)

    @operation(text=secrets())
    async def post(self, text: str) -> None:
        await self.world.post(self.user.user_id, text)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)


# -- a buffer that is not cleared, and read past what was written --------------------------------------------


class Encoder:
    """Packs pages into blocks of a fixed size, as the wire wants them."""

    BLOCK = 96

    def __init__(self) -> None:
        self._buffer = bytearray(self.BLOCK)

    def clear(self) -> None:
        self._buffer[:] = bytes(self.BLOCK)

    def pack(self, text: str) -> bytes:
        self.clear()
        data = text.encode()[: self.BLOCK]
        self._buffer[: len(data)] = data
        return bytes(self._buffer)


class EncoderThatKeepsItsBuffer(Encoder):
    def clear(self) -> None:
        pass


class PageServer:
    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._pages: dict[tuple[str, str], str] = {}

    async def put(self, user: str, title: str, text: str) -> None:
        self._pages[user, title] = text

    async def get(self, user: str, title: str) -> bytes:
        await asyncio.sleep(0)
        return self._encoder.pack(self._pages.get((user, title), "404"))


class PageReader(Surface[PageServer]):
    @operation(title=keys(), text=secrets(wrap="Dear diary, today {}"))
    async def put(self, title: str, text: str) -> None:
        await self.world.put(self.user.user_id, title, text)

    @operation(title=keys())
    async def get(self, title: str) -> bytes:
        return await self.world.get(self.user.user_id, title)


# -- response objects from a free list -----------------------------------------------------------------------


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""

    def clear(self) -> None:
        self.status, self.body = 200, ""
        self.headers = {}


class AnswerThatKeepsItsHeaders(Answer):
    def clear(self) -> None:
        self.status, self.body = 200, ""


class Kiosk:
    """Takes answers from a free list, since making them showed in a profile."""

    def __init__(self, answer: type[Answer]) -> None:
        self._make = answer
        self._free: list[Answer] = []
        self._names: dict[str, str] = {}

    async def sign(self, user: str, name: str) -> None:
        self._names[user] = name

    async def show(self, user: str, page: str) -> dict[str, object]:
        answer = self._free.pop() if self._free else self._make()
        answer.clear()
        await asyncio.sleep(0)
        answer.body = f"page {page}"
        if user in self._names:
            answer.headers["x-signed"] = self._names[user]
        sent = {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}
        self._free.append(answer)
        return sent


class Visitor(Surface[Kiosk]):
    @operation(name=secrets())
    async def sign(self, name: str) -> None:
        await self.world.sign(self.user.user_id, name)

    @operation(page=keys())
    async def show(self, page: str) -> dict[str, object]:
        return await self.world.show(self.user.user_id, page)


EXHIBITS = {
    "environment_kept_by_job": Exhibit(
        surface=Poster, leaky=lambda: SiteWithOneEnvironment().running(), safe=lambda: Site().running()
    ),
    "buffer_not_cleared": Exhibit(
        surface=PageReader,
        leaky=lambda: PageServer(EncoderThatKeepsItsBuffer()),
        safe=lambda: PageServer(Encoder()),
    ),
    "answer_from_free_list": Exhibit(
        surface=Visitor, leaky=lambda: Kiosk(AnswerThatKeepsItsHeaders), safe=lambda: Kiosk(Answer)
    ),
}
