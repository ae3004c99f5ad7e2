"""Planted cross-user bugs of depth 1 to 3 as surfaces: each with its known smallest form."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from pytest_ssot_isolation import Surface, keys, operation, secrets

NOISE = st.integers(1, 3)


class Store:
    """What every world has: notes by user and title."""

    def __init__(self) -> None:
        self.notes: dict[tuple[str, str], str] = {}


class Plain(Surface[Any]):
    """Writes are right in every world; so the rest has something to show."""

    async def io(self) -> None:
        await asyncio.sleep(0)

    @property
    def me(self) -> str:
        return self.user.user_id

    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> None:
        await self.io()
        self.world.notes[self.me, title] = body

    @operation(title=keys())
    async def own(self, title: str) -> str | None:
        await self.io()
        return self.world.notes.get((self.me, title))  # type: ignore[no-any-return]

    @operation(times=NOISE)
    async def noise(self, times: int) -> None:
        for _ in range(times):
            await self.io()


class CurrentUser(Plain):
    """Who acts is kept on the application over an await."""

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        self.world.current = self.me
        await self.io()
        return self.world.notes.get((self.world.current, title))  # type: ignore[no-any-return]


class SharedSetting(Plain):
    """A setting of a shared connection, between SET and SELECT, in the middle of real steps."""

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        await self.io()
        self.world.setting = self.me
        await self.io()
        seen = self.world.notes.get((self.world.setting, title))
        await self.io()
        return seen  # type: ignore[no-any-return]


class CacheFill(Plain):
    """A cache filled under the key of whoever came last: needs a later read of the same key."""

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        cache = self.world.__dict__.setdefault("cache", {})
        key = (self.me, title)
        if key in cache:
            return cache[key]  # type: ignore[no-any-return]
        self.world.last = key
        await self.io()
        found = self.world.notes.get(key)
        await self.io()
        if found is not None:
            cache[self.world.last] = found
        return found  # type: ignore[no-any-return]


class Pipeline(Plain):
    """A reply left half read by a cancelled call."""

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        lock = self.world.__dict__.setdefault("lock", asyncio.Lock())
        replies = self.world.__dict__.setdefault("replies", [])
        async with lock:
            await self.io()
            replies.append(self.world.notes.get((self.me, title)))
            await self.io()
            return replies.pop(0)  # type: ignore[no-any-return]


WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who")


class Batcher(Plain):
    """Two users in one window of a loader, which runs in the first one's context."""

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        WHO.set(self.me)
        await self.io()
        waiting = self.world.__dict__.setdefault("waiting", [])
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        waiting.append((title, answer))
        if len(waiting) == 1:
            self.world.task = asyncio.create_task(self._flush(waiting))
        return await answer

    async def _flush(self, waiting: list[tuple[str, asyncio.Future[str | None]]]) -> None:
        await self.io()
        batch = list(waiting)
        waiting.clear()
        for title, answer in batch:
            if not answer.done():
                answer.set_result(self.world.notes.get((WHO.get(), title)))


class SaveRestore(Plain):
    """The user before is put back: A in, B in, A out, B out, and somebody's name stays."""

    @operation()
    async def act(self) -> None:
        before = getattr(self.world, "acting", None)
        self.world.acting = self.me
        await self.io()
        self.world.acting = before

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        await self.io()
        acting = getattr(self.world, "acting", None) or self.me
        return self.world.notes.get((acting, title))  # type: ignore[no-any-return]


class ResetRace(Plain):
    """A session given back before its reset has ended; the late reset hits the next owner."""

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        world = self.world
        for _ in range(50):
            if getattr(world, "free", True):
                break
            await self.io()
        else:
            return None
        world.free = False
        world.identity = self.me
        await self.io()
        if world.identity is None:
            world.identity = getattr(world, "last", self.me)
        await self.io()
        seen = world.notes.get((world.identity, title))
        world.last = self.me
        world.free = True
        await self.io()
        world.identity = None
        await self.io()
        return seen  # type: ignore[no-any-return]


class TwoLatches(Plain):
    """Depth 3: two flags, set by calls that overlap, then a read in between."""

    @operation()
    async def left(self) -> None:
        self.world.left = self.me
        await self.io()
        await self.io()
        self.world.left = None

    @operation()
    async def right(self) -> None:
        if getattr(self.world, "left", None) not in (None, self.me):
            self.world.right = self.world.left
            await self.io()
            await self.io()
            self.world.right = None

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        await self.io()
        whose = getattr(self.world, "right", None) or self.me
        return self.world.notes.get((whose, title))  # type: ignore[no-any-return]


class LateWriter(Plain):
    """Depth 2: what is written in the background goes to whoever is current when it is."""

    @operation(title=keys(), body=secrets())
    async def save(self, title: str, body: str) -> None:
        self.world.current = self.me
        self.world.job = asyncio.create_task(self._store(title, body))
        await self.io()

    async def _store(self, title: str, body: str) -> None:
        await self.io()
        self.world.notes[self.world.current, title] = body


@dataclass(frozen=True)
class Race:
    """One planted bug.

    Attributes:
        surface: Where it is.
        calls: Calls in its smallest form.
        preemptions: Choices in its smallest form.
        faults: Kinds of faults that it needs.
    """

    surface: type[Surface[Any]]
    calls: int
    preemptions: int
    faults: tuple[str, ...] = ()


RACES = (
    Race(CurrentUser, 3, 1),
    Race(SharedSetting, 3, 1),
    Race(CacheFill, 4, 1),
    Race(Pipeline, 3, 0, ("cancel",)),
    Race(Batcher, 3, 1),
    Race(SaveRestore, 3, 1),
    Race(ResetRace, 3, 2),
    Race(LateWriter, 3, 1),
    Race(TwoLatches, 4, 2),
)
