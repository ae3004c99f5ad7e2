"""A small notes application, correct or with one mistake, and a check of it without pytest around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pytest_ssot_isolation import Surface, keys, observed, operation, secrets
from pytest_ssot_isolation.errors import InconclusiveCheck, LeakFound
from pytest_ssot_isolation.harness import Isolation
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.options import Settings


class App:
    """Notes of several users in memory; ``mistake`` names what is wrong with it."""

    def __init__(self, mistake: str = "") -> None:
        self.mistake = mistake
        self.notes: dict[Any, str] = {}
        self.by_id: dict[int, tuple[str, str]] = {}
        self.current = ""

    def _key(self, user: str, title: str) -> object:
        match self.mistake:
            case "key forgets the user":
                return title
            case "folded":
                return user.casefold(), title
            case "joined":
                return f"{user}:{title}"
        return user, title

    async def write(self, user: str, title: str, body: str) -> dict[str, int]:
        await asyncio.sleep(0)
        number = len(self.by_id) + 1
        self.notes[self._key(user, title)] = body
        self.by_id[number] = (user, body)
        return {"id": number}

    async def read(self, user: str, title: str) -> str | None:
        await asyncio.sleep(0)
        return self.notes.get(self._key(user, title))

    async def read_by_id(self, user: str, number: int) -> str:
        await asyncio.sleep(0)
        owner, body = self.by_id.get(number, ("", ""))
        if owner != user and self.mistake != "id without owner":
            if owner and self.mistake == "forbidden tells":
                raise PermissionError("forbidden")
            raise LookupError("no such note")
        return body

    async def count(self, user: str) -> int:
        return sum(1 for owner, _ in self.by_id.values() if owner == user or self.mistake == "count of all")

    async def mine(self, user: str) -> list[str]:
        self.current = user
        await asyncio.sleep(0)
        if self.mistake == "current user":
            user = self.current
        return [body for owner, body in self.by_id.values() if owner == user]

    async def clear(self, user: str) -> int:
        gone = [n for n, (owner, _) in self.by_id.items() if owner == user or self.mistake == "clears all"]
        for number in gone:
            self.by_id[number] = ("", "")
        return 0


class Notes(Surface[App]):
    """What one user of the notes application can do."""

    opaque = ("id",)

    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> dict[str, int]:
        return await self.world.write(self.user.user_id, title, body)

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        return await self.world.read(self.user.user_id, title)

    @operation(note=observed("write"))
    async def read_by_id(self, note: int) -> str:
        return await self.world.read_by_id(self.user.user_id, note)

    @operation
    async def count(self) -> int:
        return await self.world.count(self.user.user_id)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)


class Clearing(Notes):
    """The same, and users can throw their notes away."""

    @operation
    async def clear(self) -> int:
        return await self.world.clear(self.user.user_id)


Check = Callable[..., Report]


@pytest.fixture
def harness(tmp_path: Path) -> Callable[..., Isolation]:
    """Makes a harness whose failing examples are kept in a folder of the test."""

    def make(test_id: str = "test_notes.py::test_isolated", **settings: Any) -> Isolation:
        return Isolation(settings=Settings(seed=7, **settings), test_id=test_id, root=tmp_path)

    return make


@pytest.fixture
def check(harness: Callable[..., Isolation]) -> Iterator[Check]:
    """Checks a surface, and gives the report whatever the verdict."""

    numbers = count()

    def run(surface: Any = Notes, mistake: str = "", **options: Any) -> Report:
        options.setdefault("world", lambda: App(mistake))
        options.setdefault("examples", 40)
        options.setdefault("seed", 7)
        try:
            # A test of its own each time: what was kept of one must not run first in the next.
            return harness(f"test_notes.py::test_{next(numbers)}").check(surface, **options)
        except (LeakFound, InconclusiveCheck) as found:
            return found.report

    yield run
    left = asyncio._get_running_loop()
    assert left is None


@pytest.fixture
def notes() -> type[Notes]:
    return Notes


@pytest.fixture
def clearing() -> type[Clearing]:
    return Clearing


@pytest.fixture
def app() -> type[App]:
    return App
