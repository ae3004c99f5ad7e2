"""Guards of an application are weakened one at a time, to learn whether the check would notice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import aiocache
import cachetools
import fakeredis
import pytest

from pytest_ssot_isolation import (
    InconclusiveCheck,
    LeakFound,
    Report,
    Surface,
    keys,
    observed,
    operation,
    secrets,
)
from pytest_ssot_isolation.harness import Isolation
from pytest_ssot_isolation.model.mutants import Mutants

ACTING: ContextVar[str | None] = ContextVar("acting", default=None)


class Store:
    """Notes in SQLite; the ids count up."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", check_same_thread=False)
        self.db.execute("CREATE TABLE notes (id TEXT PRIMARY KEY, owner TEXT, title TEXT, body TEXT)")

    def write(self, owner: str, note: str, title: str, body: str) -> str:
        self.db.execute("INSERT INTO notes VALUES (?, ?, ?, ?)", (note, owner, title, body))
        return note

    def read(self, owner: str, note: str) -> str | None:
        row = self.db.execute("SELECT body FROM notes WHERE owner = ? AND id = ?", (owner, note)).fetchone()
        return row and str(row[0])


@contextmanager
def store() -> Iterator[Store]:
    made = Store()
    try:
        yield made
    finally:
        made.db.close()


class Notes(Surface[Store]):
    """Reads notes by ids that others got as well."""

    @operation(title=keys(), body=secrets())
    def write(self, title: str, body: str) -> str:
        self.notes = getattr(self, "notes", 0) + 1
        return self.world.write(self.user.user_id, f"{self.user.request_id}-{self.notes}", title, body)

    @operation(note=observed("write"))
    def read(self, note: str) -> str | None:
        return self.world.read(self.user.user_id, note)


class OnlyOwn(Surface[Store]):
    """Reads what it wrote itself, and never asks for another's."""

    @operation(title=keys(), body=secrets())
    def write(self, title: str, body: str) -> str:
        self.last = self.world.write(self.user.user_id, f"{self.user.request_id}-{title}", title, body)
        return self.last

    @operation(needs=lambda self: hasattr(self, "last"))
    def read(self) -> str | None:
        return self.world.read(self.user.user_id, self.last)


class Unguarded(Notes):
    """The application's guard is missing from the start."""

    @operation(note=observed("write"))
    def read(self, note: str) -> str | None:
        row = self.world.db.execute("SELECT body FROM notes WHERE id = ?", (note,)).fetchone()
        return row and str(row[0])


class Cached(Surface[Any]):
    """Notes kept in a cache by user and title."""

    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> None:
        self.world[self.user.user_id, title] = body

    @operation(title=keys())
    async def read(self, title: str) -> object:
        return self.world.get((self.user.user_id, title))


class Desk:
    """One worker does the jobs of all users, and says who acts only while it does one for somebody."""

    def __init__(self) -> None:
        self.jobs: asyncio.Queue[tuple[str | None, str, asyncio.Future[str]]] = asyncio.Queue()
        self.bodies: dict[str, str] = {}

    async def work(self) -> None:
        while True:
            user, body, done = await self.jobs.get()
            if user is not None:
                token = ACTING.set(user)
                self.bodies[user] = body
                ACTING.reset(token)
            acting = ACTING.get()
            done.set_result("nobody" if acting is None else self.bodies[acting])

    async def ask(self, user: str | None, body: str) -> str:
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await self.jobs.put((user, body, done))
        return await done


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    worker = asyncio.create_task(made.work())
    try:
        yield made
    finally:
        worker.cancel()


class AtTheDesk(Surface[Desk]):
    """Leaves something at the desk, and asks what an unknown visitor is told."""

    def __init__(self) -> None:
        self.kept = ""

    @operation(body=secrets())
    async def leave(self, body: str) -> None:
        self.kept = body
        await self.world.ask(self.user.user_id, body)

    @operation()
    async def visit(self) -> str:
        return await self.world.ask(None, "")

    @operation()
    async def mine(self) -> str:
        return self.kept


def mutants(report: Report) -> Mutants:
    assert report.mutants is not None
    return report.mutants


Check = Callable[..., Report]


@pytest.fixture
def check(harness: Callable[[], Isolation]) -> Check:
    def of(surface: type[Surface[Any]], world: Any, *guards: str) -> Report:
        return harness().check(surface, world=world, mutate=guards, examples=30, ids="plain")

    return of


def test_a_dropped_tenant_filter_is_noticed_by_a_suite_that_asks_for_foreign_ids(check: Check) -> None:
    told = mutants(check(Notes, store, "drop_where"))

    (killed,) = told.mutants
    assert (killed.outcome, killed.by) == ("killed", "canary in read")
    assert killed.place == "owner = ? in: SELECT body FROM notes WHERE owner = ? AND id = ?"
    assert told.score == 1.0


def test_a_suite_that_notices_nothing_is_not_called_clean(check: Check) -> None:
    with pytest.raises(
        InconclusiveCheck, match="none of the 1 guards that were weakened was noticed"
    ) as told:
        check(OnlyOwn, store, "drop_where")

    assert mutants(told.value.report).survived == (
        "drop_where: owner = ? in: SELECT body FROM notes WHERE owner = ? AND id = ?",
    )
    assert "mutants  0 of 1 weakened guard noticed (0%)" in str(told.value)
    assert "survived: drop_where: owner = ?" in " ".join(str(told.value).split())


def test_a_leak_is_told_without_mutants(check: Check) -> None:
    with pytest.raises(LeakFound) as told:
        check(Unguarded, store, "drop_where")

    assert told.value.report.mutants is None


def test_a_part_of_a_cache_key_is_dropped(check: Check) -> None:
    told = mutants(check(Cached, lambda: cachetools.TTLCache(100, 60), "cache_key"))

    assert told.killed == ("cache_key: the user in cachetools keys ({user}, …)",)


class InRedis:
    """Notes by user and title in a redis of this world's own."""

    def __init__(self) -> None:
        self.redis = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer(), decode_responses=True)

    async def put(self, user: str, title: str, body: str) -> None:
        await self.redis.set(f"note:{user}:{title}", body)

    async def take(self, user: str, title: str) -> object:
        return await self.redis.get(f"note:{user}:{title}")


class InAiocache:
    """The same in aiocache."""

    def __init__(self) -> None:
        self.cache = aiocache.SimpleMemoryCache()

    async def put(self, user: str, title: str, body: str) -> None:
        await self.cache.set(f"note:{user}:{title}", body)

    async def take(self, user: str, title: str) -> object:
        return await self.cache.get(f"note:{user}:{title}")


class Shelf(Surface[Any]):
    """Puts notes by title, and takes them."""

    @operation(title=keys(), body=secrets())
    async def put(self, title: str, body: str) -> None:
        await self.world.put(self.user.user_id, title, body)

    @operation(title=keys())
    async def take(self, title: str) -> object:
        return await self.world.take(self.user.user_id, title)


@pytest.mark.parametrize(("world", "library"), [(InRedis, "redis"), (InAiocache, "aiocache")])
def test_a_part_of_a_key_of_a_shared_cache_is_dropped(check: Check, world: Any, library: str) -> None:
    told = mutants(check(Shelf, world, "cache_key"))

    assert told.killed == (f"cache_key: the user in {library} keys note:{{user}}…",)


def test_a_context_variable_that_is_not_set_back_is_noticed(check: Check) -> None:
    told = mutants(check(AtTheDesk, desk, "contextvar_reset"))

    assert [name for name in told.killed if name.endswith(".ACTING")]


def test_a_name_that_finds_no_guard_is_told(check: Check) -> None:
    report = check(Cached, lambda: cachetools.TTLCache(100, 60), "cache_key", "drop_where")

    assert any("drop_where: no condition on the acting user or tenant was seen in" in n for n in report.notes)


def test_a_check_without_any_guard_is_inconclusive(check: Check) -> None:
    with pytest.raises(InconclusiveCheck, match="no guard that could be weakened was executed"):
        check(Cached, lambda: cachetools.TTLCache(100, 60), "drop_where")


def test_nothing_of_a_mutation_stays_behind(check: Check) -> None:
    before = (sqlite3.connect, cachetools.Cache.get, cachetools.TTLCache.__getitem__, ACTING)
    check(Cached, lambda: cachetools.TTLCache(100, 60), "all")

    calls = 0

    def interrupted() -> AbstractContextManager[Store]:
        nonlocal calls
        calls += 1
        if calls > 60:
            raise KeyboardInterrupt
        return store()

    with pytest.raises(KeyboardInterrupt):
        check(Notes, interrupted, "all")
    assert (sqlite3.connect, cachetools.Cache.get, cachetools.TTLCache.__getitem__, ACTING) == before


def test_the_mutants_of_a_report_survive_its_json(check: Check) -> None:
    report = check(Notes, store, "drop_where")

    assert Report.from_plain(report.to_plain()) == report
    assert report.to_plain()["mutants"]["score"] == 1.0


def test_a_check_inside_a_coroutine_weakens_guards_as_well(harness: Callable[[], Isolation]) -> None:
    async def asked() -> Report:
        return await harness().check_async(Notes, world=store, mutate="drop_where", examples=20, ids="plain")

    assert len(mutants(asyncio.run(asked())).killed) == 1
