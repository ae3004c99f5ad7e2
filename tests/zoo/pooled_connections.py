"""Family 1: what one user leaves on a pooled connection, and the next one finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
from fastapi import FastAPI, Request
from sqlalchemy import QueuePool, create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pytest_ssot_isolation.generation.strategies import secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_ssot_isolation.provisioning.postgres import PostgresDatabase

# -- a temporary table on a pooled connection, SQLite --------------------------------------------------------


class Imports:
    """Stages the lines of an upload in a temporary table, then adds them all at once."""

    def __init__(self) -> None:
        self._engine = create_engine(
            "sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0,
            connect_args={"check_same_thread": False},
        )  # fmt: skip
        with self._engine.begin() as connection:
            connection.execute(text("create table line (owner text, body text)"))

    def after_upload(self, connection: Any) -> None:
        connection.execute(text("drop table temp.staged"))

    async def upload(self, user: str, body: str, *, and_keep: bool) -> int:
        with self._engine.begin() as connection:
            connection.execute(text("create temp table if not exists staged (body text)"))
            connection.execute(text("insert into staged values (:body)"), {"body": body})
            if and_keep:
                query = "insert into line select :owner, body from staged"
                connection.execute(text(query), {"owner": user})
                connection.execute(text("delete from staged"))
            self.after_upload(connection)
        return 1

    async def mine(self, user: str) -> list[str]:
        query = text("select body from line where owner = :owner order by rowid")
        with self._engine.connect() as connection:
            return list(connection.execute(query, {"owner": user}).scalars())


class ImportsThatLeaveTheTable(Imports):
    def after_upload(self, connection: Any) -> None:
        pass


@contextmanager
def disposing(imports: type[Imports]) -> Iterator[Imports]:
    made = imports()
    try:
        yield made
    finally:
        made._engine.dispose()


class ImportUser(Surface[Any]):
    @operation(body=secrets())
    async def check_upload(self, body: str) -> int:
        """Only tells whether the upload could be read; nothing of it is kept."""
        checked: int = await self.world.upload(self.user.user_id, body, and_keep=False)
        return checked

    @operation(body=secrets())
    async def upload(self, body: str) -> int:
        uploaded: int = await self.world.upload(self.user.user_id, body, and_keep=True)
        return uploaded

    @operation
    async def mine(self) -> list[str]:
        lines: list[str] = await self.world.mine(self.user.user_id)
        return lines


# -- a header left on a pooled HTTP client -------------------------------------------------------------------


def profile_service() -> FastAPI:
    app = FastAPI()
    names: dict[str, str] = {}

    @app.put("/name")
    async def rename(request: Request) -> None:
        names[request.headers["x-user"]] = (await request.json())["name"]

    @app.get("/greeting")
    async def greeting(request: Request) -> str:
        user = request.headers.get("x-user")
        return f"hello {names.get(user, 'friend') if user else 'stranger'}"

    return app


class Portal:
    """Calls the profile service through a few clients that it keeps open."""

    def __init__(self) -> None:
        app = profile_service()
        self._idle: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        for _ in range(2):
            transport = httpx.ASGITransport(app=app)
            self._idle.put_nowait(httpx.AsyncClient(transport=transport, base_url="http://profiles.test"))

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Portal]:
        portal = cls()
        try:
            yield portal
        finally:
            while not portal._idle.empty():
                await portal._idle.get_nowait().aclose()

    def clean(self, client: httpx.AsyncClient) -> None:
        client.headers.pop("x-user", None)

    @asynccontextmanager
    async def client(self, user: str | None) -> AsyncIterator[httpx.AsyncClient]:
        client = await self._idle.get()
        if user is not None:
            client.headers["x-user"] = user.encode().hex()
        try:
            yield client
        finally:
            self.clean(client)
            self._idle.put_nowait(client)

    async def rename(self, user: str, name: str) -> None:
        async with self.client(user) as client:
            await client.put("/name", json={"name": name})

    async def greeting(self, user: str | None) -> str:
        async with self.client(user) as client:
            greeting: str = (await client.get("/greeting")).json()
            return greeting


class PortalThatKeepsHeaders(Portal):
    def clean(self, client: httpx.AsyncClient) -> None:
        pass


class PortalUser(Surface[Portal]):
    @operation(name=secrets())
    async def rename(self, name: str) -> None:
        await self.world.rename(self.user.user_id, name)

    @operation
    async def greeting(self) -> str:
        return await self.world.greeting(self.user.user_id)

    @operation
    async def greeting_before_signing_in(self) -> str:
        return await self.world.greeting(None)


# -- PostgreSQL: what the session holds ----------------------------------------------------------------------

SCHEMA = """
create table note (owner text not null default current_setting('app.user_id'), body text not null,
    place bigint generated always as identity);
create policy own on note using (owner = current_setting('app.user_id', true));
alter table note enable row level security;
alter table note force row level security;
"""
GUARDED = """
create table note (owner text not null, body text not null, place bigint generated always as identity);
create policy own on note using (
    current_setting('app.guard', true) is distinct from 'on'
    or owner = current_setting('app.user_id', true)) with check (true);
alter table note enable row level security;
alter table note force row level security;
"""


class NoteUser(Surface[Any]):
    """Writes and lists notes; the front page is shown to whom nobody signed in."""

    @operation(body=secrets())
    async def add(self, body: str) -> None:
        await self.world.add(self.user.user_id, body)

    @operation
    async def listing(self) -> list[str]:
        notes: list[str] = await self.world.listing(self.user.user_id)
        return notes

    @operation
    async def front_page(self) -> list[str]:
        notes: list[str] = await self.world.listing(None)
        return notes


class NotesByEngine:
    """On SQLAlchemy's pool, which rolls back what is given back and resets nothing else."""

    is_local = True

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def _act_for(self, connection: AsyncConnection, user: str | None) -> None:
        if user is not None:
            query = text("select set_config('app.user_id', :user, :local)")
            await connection.execute(query, {"user": user, "local": self.is_local})

    async def add(self, user: str, body: str) -> None:
        async with self._engine.begin() as connection:
            await self._act_for(connection, user)
            await connection.execute(text("insert into note (body) values (:body)"), {"body": body})

    async def listing(self, user: str | None) -> list[str]:
        async with self._engine.begin() as connection:
            await self._act_for(connection, user)
            return list((await connection.execute(text("select body from note order by place"))).scalars())


class NotesThatSet(NotesByEngine):
    is_local = False


def by_engine(notes: type[NotesByEngine], **options: Any) -> Callable[[PostgresDatabase], Any]:
    def make(database: PostgresDatabase) -> Any:
        @asynccontextmanager
        async def world() -> AsyncIterator[NotesByEngine]:
            engine = create_async_engine(database.url("asyncpg"), pool_size=2, **options)
            try:
                yield notes(engine)
            finally:
                await engine.dispose()

        return world()

    return make


class LongNoteUser(NoteUser):
    @operation(body=secrets(wrap="a note that is far too long: {}"), may_fail=True)
    async def add_long(self, body: str) -> None:
        await self.world.add(self.user.user_id, body)


class NotesByPool:
    """On asyncpg's pool, which resets the session when a connection comes back."""

    def __init__(self, pool: asyncpg.Pool | SmallPool) -> None:
        self._pool = pool

    async def _act_for(self, connection: Any, user: str | None) -> None:
        if user is not None:
            await connection.execute("select set_config('app.user_id', $1, false)", user)

    async def add(self, user: str, body: str) -> None:
        async with self._pool.acquire() as connection:
            await self._act_for(connection, user)
            await connection.execute("insert into note (body) values ($1)", body)

    async def listing(self, user: str | None) -> list[str]:
        async with self._pool.acquire() as connection:
            await self._act_for(connection, user)
            return [row["body"] for row in await connection.fetch("select body from note order by place")]


class NotesBehindGuard(NotesByPool):
    async def add(self, user: str, body: str) -> None:
        async with self._pool.acquire() as connection:
            await connection.execute("insert into note (owner, body) values ($1, $2)", user, body)


class NotesThatCheck(NotesByPool):
    """Refuses what is too long, after it was written; says itself where transactions begin and end."""

    async def refuse(self, connection: Any) -> None:
        await connection.execute("rollback")

    async def add(self, user: str, body: str) -> None:
        async with self._pool.acquire() as connection:
            await connection.execute("begin")
            await self._act_for(connection, user)
            await connection.execute("insert into note (body) values ($1)", body)
            if len(body) > 30:
                await self.refuse(connection)
                raise ValueError("the note is too long")
            await connection.execute("commit")

    async def listing(self, user: str | None) -> list[str]:
        async with self._pool.acquire() as connection:
            await connection.execute("begin")
            await self._act_for(connection, user)
            rows = [row["body"] for row in await connection.fetch("select body from note order by place")]
            await connection.execute("commit")
            return rows

    async def _act_for(self, connection: Any, user: str | None) -> None:
        if user is not None:
            await connection.execute("select set_config('app.user_id', $1, true)", user)


class SmallPool:
    """A pool of the application's own: two connections, given out in turn."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SmallPool]:
        connections = [await asyncpg.connect(self._dsn) for _ in range(2)]
        for connection in connections:
            self._idle.put_nowait(connection)
        try:
            yield self
        finally:
            for connection in connections:
                await connection.close()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        connection = await self._idle.get()
        try:
            yield connection
        finally:
            self._idle.put_nowait(connection)


def by_small_pool(notes: type[NotesByPool]) -> Callable[[PostgresDatabase], Any]:
    def make(database: PostgresDatabase) -> Any:
        @asynccontextmanager
        async def world() -> AsyncIterator[NotesByPool]:
            async with SmallPool(database.dsn).running() as pool:
                yield notes(pool)

        return world()

    return make


class NotesThatLeaveTransactionsOpen(NotesThatCheck):
    async def refuse(self, connection: Any) -> None:
        pass


class ImportsInPostgres(NotesByPool):
    ends = "on commit drop"

    async def upload(self, user: str, body: str, *, and_keep: bool) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            await self._act_for(connection, user)
            await connection.execute(f"create temp table if not exists staged (body text) {self.ends}")
            await connection.execute("insert into staged values ($1)", body)
            if and_keep:
                await connection.execute("insert into note (body) select body from staged")
                await connection.execute("delete from staged")
        return 1

    async def mine(self, user: str) -> list[str]:
        return await self.listing(user)


class ImportsThatPreserveRows(ImportsInPostgres):
    ends = "on commit preserve rows"


async def leave_as_it_is(connection: Any) -> None:
    """Saves a round trip for each request."""


async def guard(connection: Any) -> None:
    await connection.execute("set app.guard = 'on'")


def by_pool(notes: type[NotesByPool], **options: Any) -> Callable[[PostgresDatabase], Any]:
    def make(database: PostgresDatabase) -> Any:
        @asynccontextmanager
        async def world() -> AsyncIterator[NotesByPool]:
            async with asyncpg.create_pool(database.dsn, min_size=1, max_size=2, **options) as pool:
                yield notes(pool)

        return world()

    return make


EXHIBITS = {
    "temp_table_left_in_sqlite": Exhibit(
        surface=ImportUser,
        leaky=lambda: disposing(ImportsThatLeaveTheTable),
        safe=lambda: disposing(Imports),
    ),
    "header_left_on_client": Exhibit(surface=PortalUser, leaky=PortalThatKeepsHeaders.open, safe=Portal.open),
    "set_for_set_local": Exhibit(
        surface=NoteUser,
        leaky=by_engine(NotesThatSet),
        safe=by_engine(NotesByEngine),
        leaky_schema=SCHEMA,
        safe_schema=SCHEMA,
    ),
    "open_transaction_handed_back": Exhibit(
        surface=LongNoteUser,
        leaky=by_small_pool(NotesThatLeaveTransactionsOpen),
        safe=by_small_pool(NotesThatCheck),
        leaky_schema=SCHEMA,
        safe_schema=SCHEMA,
    ),
    "reset_switched_off": Exhibit(
        surface=NoteUser,
        leaky=by_pool(NotesByPool, reset=leave_as_it_is),
        safe=by_pool(NotesByPool),
        leaky_schema=SCHEMA,
        safe_schema=SCHEMA,
    ),
    "guard_set_once_at_connect": Exhibit(
        surface=NoteUser,
        leaky=by_pool(NotesBehindGuard, init=guard),
        safe=by_pool(NotesBehindGuard, setup=guard),
        leaky_schema=GUARDED,
        safe_schema=GUARDED,
    ),
    "temp_table_left": Exhibit(
        surface=ImportUser,
        leaky=by_pool(ImportsThatPreserveRows),
        safe=by_pool(ImportsInPostgres),
        leaky_schema=SCHEMA,
        safe_schema=SCHEMA,
    ),
}
