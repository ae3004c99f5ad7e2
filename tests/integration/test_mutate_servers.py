"""Guards weakened on real servers and through each driver: a good suite notices, and the database is as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from pytest_ssot_isolation import InconclusiveCheck, Report, Surface, keys, observed, operation, secrets
from pytest_ssot_isolation.harness import Isolation
from pytest_ssot_isolation.model.mutants import Mutant
from pytest_ssot_isolation.provisioning.clickhouse import ClickhouseDatabase
from pytest_ssot_isolation.provisioning.postgres.database import PostgresDatabase

SCHEMA = "CREATE TABLE notes (id text PRIMARY KEY, owner text NOT NULL, body text NOT NULL)"
POLICIES = """
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE notes FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON notes USING (owner = current_setting('app.user_id', true));
"""
WRITE = "INSERT INTO notes VALUES ($1, $2, $3)"
READ = "SELECT body FROM notes WHERE owner = $1 AND id = $2"


class Notes(Surface[Any]):
    """Reads notes by the ids that users got; the world is one driver's way of doing it."""

    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> str:
        self.count = getattr(self, "count", 0) + 1
        note = f"{self.user.request_id}-{self.count}"
        await self.world.write(self.user.user_id, note, body)
        return note

    @operation(note=observed("write"))
    async def read(self, note: str) -> str | None:
        body: str | None = await self.world.read(self.user.user_id, note)
        return body


class OnlyOwn(Surface[Any]):
    """Never asks for another's note."""

    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> str:
        self.last = f"{self.user.request_id}-{title}"
        await self.world.write(self.user.user_id, self.last, body)
        return self.last

    @operation(needs=lambda self: hasattr(self, "last"))
    async def read(self) -> str | None:
        body: str | None = await self.world.read(self.user.user_id, self.last)
        return body


class OnAsyncpg:
    def __init__(self, pool: Any) -> None:
        self.pool = pool

    async def write(self, user: str, note: str, body: str) -> None:
        await self.pool.execute(WRITE, note, user, body)

    async def read(self, user: str, note: str) -> str | None:
        found: str | None = await self.pool.fetchval(READ, user, note)
        return found


class OnPrepared(OnAsyncpg):
    async def read(self, user: str, note: str) -> str | None:
        async with self.pool.acquire() as connection:
            found: str | None = await (await connection.prepare(READ)).fetchval(user, note)
            return found


class Forgetful(asyncpg.Connection):  # type: ignore[misc]
    """A connection whose pool gives it back as it is."""

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._top_xact = None


class OnRows(OnAsyncpg):
    """Leaves it to row security who sees what."""

    @asynccontextmanager
    async def acting(self, user: str) -> AsyncIterator[Any]:
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT set_config('app.user_id', $1, true)", user)
            yield connection

    async def write(self, user: str, note: str, body: str) -> None:
        async with self.acting(user) as connection:
            await connection.execute(WRITE, note, user, body)

    async def read(self, user: str, note: str) -> str | None:
        async with self.acting(user) as connection:
            found: str | None = await connection.fetchval("SELECT body FROM notes WHERE id = $1", note)
            return found


class OnSqlalchemy:
    def __init__(self, engine: Any) -> None:
        self.engine = engine

    async def write(self, user: str, note: str, body: str) -> None:
        async with self.engine.begin() as connection:
            values = {"id": note, "owner": user, "body": body}
            await connection.execute(text("INSERT INTO notes VALUES (:id, :owner, :body)"), values)

    async def read(self, user: str, note: str) -> str | None:
        async with self.engine.connect() as connection:
            values = {"owner": user, "id": note}
            found: str | None = await connection.scalar(
                text("SELECT body FROM notes WHERE owner = :owner AND id = :id"), values
            )
            return found


class OnPsycopg:
    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.one_at_a_time = asyncio.Lock()

    async def write(self, user: str, note: str, body: str) -> None:
        async with self.one_at_a_time:
            await self.connection.execute("INSERT INTO notes VALUES (%s, %s, %s)", (note, user, body))

    async def read(self, user: str, note: str) -> str | None:
        async with self.one_at_a_time:
            query = "SELECT body FROM notes WHERE owner = %(owner)s AND id = %(id)s"
            found = await (await self.connection.execute(query, {"owner": user, "id": note})).fetchone()
            return found and str(found[0])


World = Callable[[], AbstractAsyncContextManager[Any]]


def pooled(dsn: str, way: type[OnAsyncpg], **options: Any) -> World:
    @asynccontextmanager
    async def world() -> AsyncIterator[Any]:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1, **options) as pool:
            yield way(pool)

    return world


def on_sqlalchemy(database: PostgresDatabase, driver: str) -> World:
    @asynccontextmanager
    async def world() -> AsyncIterator[Any]:
        engine = create_async_engine(database.url(driver))
        try:
            yield OnSqlalchemy(engine)
        finally:
            await engine.dispose()

    return world


def on_psycopg(dsn: str) -> World:
    @asynccontextmanager
    async def world() -> AsyncIterator[Any]:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            yield OnPsycopg(connection)

    return world


@pytest.fixture
def notes(postgres: PostgresDatabase) -> PostgresDatabase:
    postgres.apply(SCHEMA)
    return postgres


def weakened(isolation: Isolation, surface: type[Surface[Any]], world: Any, *guards: str) -> Report:
    return isolation.check(surface, world=world, mutate=guards, examples=8, calls=10, ids="plain")


def outcomes(report: Report) -> dict[str, str]:
    assert report.mutants is not None
    return {mutant.name: mutant.outcome for mutant in report.mutants.mutants}


def killed(report: Report) -> list[Mutant]:
    assert report.mutants is not None
    return [mutant for mutant in report.mutants.mutants if mutant.outcome == "killed"]


@pytest.mark.parametrize("way", [OnAsyncpg, OnPrepared])
def test_a_filter_on_asyncpg(isolation: Isolation, notes: PostgresDatabase, way: type[OnAsyncpg]) -> None:
    (found,) = killed(weakened(isolation, Notes, pooled(notes.dsn, way), "drop_where"))

    assert found.place.startswith("owner = $1 in: SELECT body FROM notes")
    assert found.by == "canary in read"


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_a_filter_on_sqlalchemy(isolation: Isolation, notes: PostgresDatabase, driver: str) -> None:
    report = weakened(isolation, Notes, on_sqlalchemy(notes, driver), "drop_where")

    assert {found.place.partition(" = ")[0] for found in killed(report)} == {"owner"}
    assert set(outcomes(report).values()) == {"killed"}


def test_a_filter_on_psycopg(isolation: Isolation, notes: PostgresDatabase) -> None:
    (found,) = killed(weakened(isolation, Notes, on_psycopg(notes.dsn), "drop_where"))

    assert found.place.startswith("owner = %(owner)s in: ")


def test_a_suite_that_never_asks_for_foreign_ids_leaves_the_filter_alive(
    isolation: Isolation, notes: PostgresDatabase
) -> None:
    with pytest.raises(InconclusiveCheck, match="was noticed, so a real leak might not be either") as told:
        weakened(isolation, OnlyOwn, pooled(notes.dsn, OnAsyncpg), "drop_where")

    assert set(outcomes(told.value.report).values()) == {"survived"}


def test_row_security_and_local_settings_and_both_are_back_afterwards(
    isolation: Isolation, notes: PostgresDatabase
) -> None:
    notes.apply(POLICIES)
    notes.apply("CREATE TABLE apart (owner text); ALTER TABLE apart ENABLE ROW LEVEL SECURITY")
    notes.apply("CREATE POLICY far ON apart USING (owner = current_user)")
    question = """
        SELECT pg_get_expr(polqual, polrelid), relforcerowsecurity
        FROM pg_policy JOIN pg_class c ON c.oid = polrelid"""
    before = notes.ask(question)
    world = pooled(notes.dsn, OnRows, connection_class=Forgetful)

    report = weakened(isolation, Notes, world, "force_rls", "set_local")

    assert outcomes(report) == {
        "force_rls: the row policy far on public.apart": "not reached",
        "force_rls: the row policy own on public.notes": "killed",
        "set_local: app.user_id in: SELECT set_config ( ? , $ ? , true )": "killed",
    }
    assert notes.ask(question) == before


def test_force_is_dropped_where_the_owner_of_the_table_is_connected(
    isolation: Isolation, notes: PostgresDatabase
) -> None:
    notes.apply(POLICIES)

    report = weakened(isolation, Notes, pooled(notes.owner_dsn, OnRows), "force_rls")

    assert outcomes(report) == {
        "force_rls: the row policy own on public.notes": "killed",
        "force_rls: FORCE ROW LEVEL SECURITY on public.notes": "killed",
    }


class Events(Surface[Any]):
    """What a tenant did, in ClickHouse."""

    @operation(what=secrets())
    async def add(self, what: str) -> None:
        rows = [[self.user.user_id, what]]
        await asyncio.to_thread(self.world.insert, "event", rows, ["tenant", "what"])

    @operation()
    async def listing(self) -> list[str]:
        query = "SELECT what FROM event WHERE tenant = {tenant:String} ORDER BY what"
        found = await asyncio.to_thread(self.world.query, query, parameters={"tenant": self.user.user_id})
        return [row[0] for row in found.result_rows]


def test_a_filter_on_clickhouse(isolation: Isolation, clickhouse: ClickhouseDatabase) -> None:
    clickhouse.apply("CREATE TABLE event (tenant String, what String) ENGINE = MergeTree ORDER BY tenant")

    (found,) = killed(weakened(isolation, Events, clickhouse.connect, "drop_where"))

    assert found.place.startswith("tenant = {tenant:String} in: ")
