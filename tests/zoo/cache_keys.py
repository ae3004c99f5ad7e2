"""Family 7: an answer kept under a key that does not say for whom."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable, Hashable
from typing import Any

from aiocache import SimpleMemoryCache, cached
from cachetools import LRUCache, TTLCache

from pytest_ssot_isolation.generation.strategies import keys, secrets
from pytest_ssot_isolation.model.context import UserExecutionContext
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit

Key = Callable[[str, str], Hashable]


class Table:
    """The system of record, which keeps users apart."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], str] = {}

    async def insert(self, user: str, title: str, body: str) -> None:
        await asyncio.sleep(0)
        self._rows[user, title] = body

    async def select(self, user: str, title: str) -> str | None:
        await asyncio.sleep(0)
        return self._rows.get((user, title))


class Pages:
    """Pages by user and title, with a read-through cache in front."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._table = Table()
        self._cache: TTLCache[Hashable, str] = TTLCache(maxsize=1024, ttl=300)

    async def write(self, user: str, title: str, body: str) -> None:
        await self._table.insert(user, title, body)
        self._cache.pop(self._key(user, title), None)

    async def read(self, user: str, title: str) -> str | None:
        key = self._key(user, title)
        if key in self._cache:
            return self._cache[key]
        body = await self._table.select(user, title)
        if body is not None:
            self._cache[key] = body
        return body


class PageUser(Surface[Any]):
    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> None:
        await self.world.write(self.user.user_id, title, body)

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        body: str | None = await self.world.read(self.user.user_id, title)
        return body


def pages(key: Key) -> Callable[[], Pages]:
    return lambda: Pages(key)


def both(user: str, title: str) -> Hashable:
    return (user, title)


def joined(user: str, title: str) -> Hashable:
    return f"pages:{user}:{title}"


def case_folded(user: str, title: str) -> Hashable:
    return (user.casefold(), title)


def stripped(user: str, title: str) -> Hashable:
    return (user.strip(), title)


def cut(user: str, title: str) -> Hashable:
    return (user[:32], title)  # as long as the column that the key is kept in


def normalised(user: str, title: str) -> Hashable:
    return (unicodedata.normalize("NFKC", user), title)


# -- the key builder of a decorator forgets the user -------------------------------------------------------


class DecoratedPages:
    def __init__(self, key_builder: Callable[..., str]) -> None:
        self._table = Table()
        self._cache = SimpleMemoryCache()
        self._key_builder = key_builder
        self.read = cached(ttl=300, key_builder=key_builder, skip_cache_func=lambda body: body is None)(
            self._select
        )
        self.read.cache = self._cache

    async def _select(self, user: str, title: str) -> str | None:
        return await self._table.select(user, title)

    async def write(self, user: str, title: str, body: str) -> None:
        await self._table.insert(user, title, body)
        await self._cache.delete(self._key_builder(self._select, user, title))


def key_of_title(function: Any, user: str, title: str) -> str:
    return f"{function.__name__}|{title!r}"


def key_of_user_and_title(function: Any, user: str, title: str) -> str:
    return f"{function.__name__}|{user!r}|{title!r}"


# -- the key forgets the role that decides what the answer holds -------------------------------------------


class Salaries:
    """Anybody may read the page of a department; only its admins see the figures."""

    def __init__(self, key: Callable[[str, str], Hashable]) -> None:
        self._key = key
        self.roles: dict[str, str] = {}
        self._figures: dict[str, str] = {}
        self._cache: LRUCache[Hashable, dict[str, str]] = LRUCache(maxsize=256)

    async def record(self, department: str, figure: str) -> None:
        await asyncio.sleep(0)
        self._figures[department] = figure
        for role in ("admin", "member"):
            self._cache.pop(self._key(department, role), None)

    async def page(self, user: str, department: str) -> dict[str, str]:
        role = self.roles[user]
        key = self._key(department, role)
        if key not in self._cache:
            await asyncio.sleep(0)
            page = {"department": department}
            if role == "admin":
                page["figure"] = self._figures.get(department, "none yet")
            self._cache[key] = page
        return self._cache[key]


class Member(Surface[Salaries]):
    role = "member"

    def open(self) -> None:
        self.world.roles[self.user.user_id] = self.role

    @operation(department=keys())
    async def page(self, department: str) -> dict[str, str]:
        return await self.world.page(self.user.user_id, department)


class Admin(Member):
    role = "admin"

    def may_see(self, owner: UserExecutionContext) -> bool:
        return self.world.roles.get(owner.user_id) == "admin"

    @operation(department=keys(), figure=secrets())
    async def record(self, department: str, figure: str) -> None:
        await self.world.record(department, figure)


# -- the cache is filled under a key that another request has changed meanwhile -----------------------------


class CheckedTwice(Pages):
    """Checks again behind the lock, so that one request at a time asks the table."""

    def __init__(self) -> None:
        super().__init__(both)
        self._lock = asyncio.Lock()

    async def read(self, user: str, title: str) -> str | None:
        key = self._key(user, title)
        if key in self._cache:
            return self._cache[key]
        async with self._lock:
            if key in self._cache:
                return self._cache[key]
            body = await self._table.select(user, title)
            if body is not None:
                self._cache[key] = body
            return body


class FilledUnderTheWrongKey(CheckedTwice):
    _wanted: Hashable

    async def read(self, user: str, title: str) -> str | None:
        self._wanted = key = self._key(user, title)
        if key in self._cache:
            return self._cache[key]
        async with self._lock:
            if key in self._cache:
                return self._cache[key]
            body = await self._table.select(user, title)
            if body is not None:
                self._cache[self._wanted] = body
            return body


# -- "there is no such page" is remembered for all ----------------------------------------------------------


class RemembersMissing(Pages):
    def __init__(self, missing_key: Key) -> None:
        super().__init__(both)
        self._missing_key = missing_key
        self._missing: TTLCache[Hashable, bool] = TTLCache(maxsize=1024, ttl=60)

    async def write(self, user: str, title: str, body: str) -> None:
        await super().write(user, title, body)
        self._missing.pop(self._missing_key(user, title), None)

    async def read(self, user: str, title: str) -> str | None:
        if self._missing_key(user, title) in self._missing:
            return None
        body = await super().read(user, title)
        if body is None:
            self._missing[self._missing_key(user, title)] = True
        return body


EXHIBITS = {
    "key_forgets_user": Exhibit(
        surface=PageUser,
        leaky=lambda: DecoratedPages(key_of_title),
        safe=lambda: DecoratedPages(key_of_user_and_title),
    ),
    "key_forgets_role": Exhibit(
        surface=(Member, Admin),
        leaky=lambda: Salaries(lambda department, role: department),
        safe=lambda: Salaries(lambda department, role: (department, role)),
        options={"users": 4},
    ),
    "key_parts_joined": Exhibit(surface=PageUser, leaky=pages(joined), safe=pages(both)),
    "key_case_folded": Exhibit(surface=PageUser, leaky=pages(case_folded), safe=pages(both)),
    "key_stripped": Exhibit(surface=PageUser, leaky=pages(stripped), safe=pages(both)),
    "key_cut": Exhibit(surface=PageUser, leaky=pages(cut), safe=pages(both)),
    "key_normalised": Exhibit(surface=PageUser, leaky=pages(normalised), safe=pages(both)),
    "filled_under_the_wrong_key": Exhibit(surface=PageUser, leaky=FilledUnderTheWrongKey, safe=CheckedTwice),
    "missing_for_all": Exhibit(
        surface=PageUser,
        leaky=lambda: RemembersMissing(lambda user, title: title),
        safe=lambda: RemembersMissing(both),
    ),
}
