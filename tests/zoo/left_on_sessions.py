"""Family 1, on PostgreSQL: a role, a search_path or a subscription that outlives the request on its connection."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection, Notify, sql
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection as EngineConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pytest_ssot_isolation.generation.strategies import other_user, secrets
from pytest_ssot_isolation.model.context import UserExecutionContext
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit

if TYPE_CHECKING:
    from pytest_ssot_isolation.provisioning.postgres import PostgresDatabase

# -- SET ROLE, and no RESET ROLE -----------------------------------------------------------------------------

# The service signs in with a role of its own and takes on that of the support desk, which may see all rows.
SUPPORT = """
create table note (owner text not null default current_setting('app.user_id'), body text not null,
    place bigint generated always as identity);
create policy own on note using (owner = current_setting('app.user_id', true));
create policy support on note for select using (current_user <> session_user);
alter table note enable row level security;
alter table note force row level security;
"""


class NotesWithSupport:
    """Acts for users by a setting, and as the support desk for the figures on its front page."""

    def __init__(self, engine: AsyncEngine, support: str) -> None:
        self._engine = engine
        self._support = support

    async def _become_support(self, connection: EngineConnection) -> None:
        await connection.execute(text(f'set local role "{self._support}"'))

    async def _act_for(self, connection: EngineConnection, user: str) -> None:
        query = text("select set_config('app.user_id', :user, true)")
        await connection.execute(query, {"user": user})

    async def add(self, user: str, body: str) -> None:
        async with self._engine.begin() as connection:
            await self._act_for(connection, user)
            await connection.execute(text("insert into note (body) values (:body)"), {"body": body})

    async def listing(self, user: str) -> list[str]:
        async with self._engine.begin() as connection:
            await self._act_for(connection, user)
            return list((await connection.execute(text("select body from note order by place"))).scalars())

    async def count_of_all(self) -> int:
        async with self._engine.begin() as connection:
            await self._become_support(connection)
            count: int = (await connection.execute(text("select count(*) from note"))).scalar_one()
            return count


class NotesThatStaySupport(NotesWithSupport):
    async def _become_support(self, connection: EngineConnection) -> None:
        await connection.execute(text(f'set role "{self._support}"'))


def with_support(notes: type[NotesWithSupport]) -> Callable[[PostgresDatabase], Any]:
    def make(database: PostgresDatabase) -> Any:
        # A login role that is a member of the database's own application role, which plays the support desk.
        service = database.dsn_for(UserExecutionContext("service"), user_setting="app.service")

        @asynccontextmanager
        async def world() -> AsyncIterator[NotesWithSupport]:
            url = service.replace("postgresql://", "postgresql+asyncpg://", 1)
            engine = create_async_engine(url, pool_size=2)
            try:
                yield notes(engine, database.user)
            finally:
                await engine.dispose()

        return world()

    return make


class NoteUser(Surface[NotesWithSupport]):
    shared = ("count_of_all:*",)

    @operation(body=secrets())
    async def add(self, body: str) -> None:
        await self.world.add(self.user.user_id, body)

    @operation
    async def listing(self) -> list[str]:
        return await self.world.listing(self.user.user_id)

    @operation
    async def count_of_all(self) -> int:
        return await self.world.count_of_all()


# -- SET search_path, and no RESET ---------------------------------------------------------------------------

TENANTS = ("north", "south")
A_SCHEMA_EACH = (
    "create table note (body text not null, place bigint generated always as identity);\n"
    + "".join(
        f"create schema {tenant};\n"
        f"create table {tenant}.note (body text not null, place bigint generated always as identity);\n"
        for tenant in TENANTS
    )
)


class Branches:
    """A schema for each branch of the company; what is for everybody is in ``public``."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._pool = pool

    async def _enter(self, connection: AsyncConnection[Any], tenant: str) -> None:
        await connection.execute(sql.SQL("set local search_path to {}").format(sql.Identifier(tenant)))

    @asynccontextmanager
    async def _at(self, tenant: str | None) -> AsyncIterator[AsyncConnection[Any]]:
        async with self._pool.connection() as connection:
            if tenant is not None:
                await self._enter(connection, tenant)
            yield connection

    async def add(self, tenant: str, body: str) -> None:
        async with self._at(tenant) as connection:
            await connection.execute("insert into note (body) values (%s)", [body])

    async def listing(self, tenant: str | None) -> list[str]:
        async with self._at(tenant) as connection:
            cursor = await connection.execute("select body from note order by place")
            return [row[0] for row in await cursor.fetchall()]


class BranchesThatStay(Branches):
    async def _enter(self, connection: AsyncConnection[Any], tenant: str) -> None:
        await connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(tenant)))


class Employee(Surface[Branches]):
    """Reads what the own branch wrote, and the notices for everybody."""

    @operation(body=secrets())
    async def add(self, body: str) -> None:
        await self.world.add(str(self.user.tenant_id), body)

    @operation
    async def listing(self) -> list[str]:
        return await self.world.listing(str(self.user.tenant_id))

    @operation
    async def notices(self) -> list[str]:
        return await self.world.listing(None)


# -- LISTEN, and no UNLISTEN ---------------------------------------------------------------------------------

MAILBOX = """
create table message (to_user text not null, body text not null, archived boolean not null default false,
    place bigint generated always as identity);
"""


class Mail:
    """Messages in a table; who is at work in the mailbox is told of new ones by NOTIFY."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._pool = pool

    def _channel(self, user: str) -> str:
        return "u" + hashlib.sha256(user.encode()).hexdigest()[:40]

    async def send(self, to: str, body: str) -> None:
        async with self._pool.connection() as connection:
            await connection.execute("insert into message (to_user, body) values (%s, %s)", [to, body])
            await connection.execute("select pg_notify(%s, %s)", [self._channel(to), body])

    async def inbox(self, user: str) -> list[str]:
        async with self._pool.connection() as connection:
            query = "select body from message where to_user = %s order by place"
            return [row[0] for row in await (await connection.execute(query, [user])).fetchall()]

    async def archive(self, user: str) -> dict[str, Any]:
        """Put away what is there, and tell what came meanwhile."""
        channel = sql.Identifier(self._channel(user))
        news: list[str] = []

        def heard(note: Notify) -> None:
            news.append(note.payload)

        async with self._pool.connection() as connection:
            connection.add_notify_handler(heard)
            try:
                await connection.execute(sql.SQL("listen {}").format(channel))
                await connection.commit()
                query = "update message set archived = true where to_user = %s and not archived"
                archived = (await connection.execute(query, [user])).rowcount
                await self._leave(connection)
            finally:
                connection.remove_notify_handler(heard)
        return {"archived": archived, "news": news}

    async def _leave(self, connection: AsyncConnection[Any]) -> None:
        await connection.execute("unlisten *")


class MailThatListensOn(Mail):
    async def _leave(self, connection: AsyncConnection[Any]) -> None:
        pass


class Correspondent(Surface[Mail]):
    ignore = ("archive:news",)  # Whether a message comes while one archives is a matter of moments.

    @operation(to=other_user(), body=secrets(to="to"))
    async def send(self, to: str, body: str) -> None:
        await self.world.send(to, body)

    @operation
    async def inbox(self) -> list[str]:
        return await self.world.inbox(self.user.user_id)

    @operation
    async def archive(self) -> dict[str, Any]:
        return await self.world.archive(self.user.user_id)


def by_psycopg(application: type[Any]) -> Callable[[PostgresDatabase], Any]:
    def make(database: PostgresDatabase) -> Any:
        @asynccontextmanager
        async def world() -> AsyncIterator[Any]:
            async with AsyncConnectionPool(database.dsn, min_size=2, max_size=2, open=False) as pool:
                await pool.wait()
                yield application(pool)

        return world()

    return make


EXHIBITS = {
    "set_role_left": Exhibit(
        surface=NoteUser,
        leaky=with_support(NotesThatStaySupport),
        safe=with_support(NotesWithSupport),
        leaky_schema=SUPPORT,
        safe_schema=SUPPORT,
    ),
    "search_path_left": Exhibit(
        surface=Employee,
        leaky=by_psycopg(BranchesThatStay),
        safe=by_psycopg(Branches),
        leaky_schema=A_SCHEMA_EACH,
        safe_schema=A_SCHEMA_EACH,
        options={"boundary": "tenant", "tenants": TENANTS},
    ),
    "listen_left": Exhibit(
        surface=Correspondent,
        leaky=by_psycopg(MailThatListensOn),
        safe=by_psycopg(Mail),
        leaky_schema=MAILBOX,
        safe_schema=MAILBOX,
    ),
}
