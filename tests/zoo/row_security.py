"""Family 10: PostgreSQL's row security, with a gap. The application trusts it and writes no WHERE."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from pytest_ssot_isolation.generation.strategies import keys, observed, other_user, secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit

if TYPE_CHECKING:
    from pytest_ssot_isolation.provisioning.postgres import PostgresDatabase

TABLE = """
create table note (
    id uuid primary key default gen_random_uuid(),
    owner text not null default current_setting('app.user_id'),
    title text not null,
    body text not null,
    place bigint generated always as identity
);
"""
OWN = "owner = current_setting('app.user_id', true)"
POLICY = f"create policy own on note using ({OWN}) with check ({OWN});"
ENABLED = "alter table note enable row level security;"
FORCED = "alter table note force row level security;"
SAFE = TABLE + POLICY + ENABLED + FORCED


class Notes:
    """Each request is a transaction that says for whom it acts."""

    read_from = "note"
    add_to = "insert into note (title, body) values ($1, $2) returning id"

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def acting(self, user: str | None) -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection, connection.transaction():
            if user is not None:
                await connection.execute("select set_config('app.user_id', $1, true)", user)
            yield connection

    async def add(self, user: str, title: str, body: str) -> str:
        async with self.acting(user) as connection:
            return str(await connection.fetchval(self.add_to, title, body))

    async def listing(self, user: str) -> list[dict[str, str]]:
        async with self.acting(user) as connection:
            rows = await connection.fetch(f"select title, body from {self.read_from} order by place")
            return [dict(row) for row in rows]

    async def read(self, user: str, note: str) -> str | None:
        async with self.acting(user) as connection:
            body: str | None = await connection.fetchval("select body from note where id = $1", note)
            return body

    async def find(self, user: str, title: str) -> list[str]:
        async with self.acting(user) as connection:
            query = f"select body from {self.read_from} where title = $1 order by place"
            return [row["body"] for row in await connection.fetch(query, title)]


def on(notes: type[Notes], *, as_owner: bool = False) -> Callable[[PostgresDatabase], Any]:
    """A world: the application on a pool of its own."""

    def make(database: PostgresDatabase) -> Any:
        @asynccontextmanager
        async def world() -> AsyncIterator[Notes]:
            dsn = database.owner_dsn if as_owner else database.dsn
            async with asyncpg.create_pool(dsn, min_size=1, max_size=3) as pool:
                yield notes(pool)

        return world()

    return make


class NoteUser(Surface[Notes]):
    opaque = ("add:*",)

    @operation(title=keys(), body=secrets())
    async def add(self, title: str, body: str) -> str:
        return await self.world.add(self.user.user_id, title, body)

    @operation
    async def listing(self) -> list[dict[str, str]]:
        return await self.world.listing(self.user.user_id)

    @operation(note=observed("add"))
    async def read(self, note: str) -> str | None:
        return await self.world.read(self.user.user_id, note)

    @operation(title=keys())
    async def find(self, title: str) -> list[str]:
        return await self.world.find(self.user.user_id, title)


# -- a page for nobody in particular, and a policy that is open when nobody is named -------------------------


class NotesWithFrontPage(Notes):
    async def front_page(self) -> list[str]:
        async with self.acting(None) as connection:
            return [row["title"] + row["body"] for row in await connection.fetch("select * from note")]


class FrontPageReader(NoteUser):
    world: NotesWithFrontPage

    @operation
    async def front_page(self) -> list[str]:
        return await self.world.front_page()


# -- a view, a materialized view, a function, a partition ----------------------------------------------------


class NotesByView(Notes):
    read_from = "note_list"


class NotesByFunction(Notes):
    read_from = "search_notes()"


class NotesInPartition(Notes):
    read_from = "note_recent"


class NotesByMaterializedView(Notes):
    read_from = "note_list"

    async def add(self, user: str, title: str, body: str) -> str:
        made = await super().add(user, title, body)
        async with self.acting(user) as connection:
            await connection.execute("select refresh_note_list()")
        return made


UNFORCED = TABLE + POLICY + ENABLED
VIEW = "create view note_list {} as select title, body, place from note;"
FUNCTION = """
create function search_notes() returns table (title text, body text, place bigint)
language sql stable {} as $$ select title, body, place from note $$;
"""
PARTITIONED = f"""
create table note (
    id uuid default gen_random_uuid(),
    owner text not null default current_setting('app.user_id'),
    title text not null,
    body text not null,
    place bigint generated always as identity,
    written date not null default current_date
) partition by range (written);
create table note_recent partition of note for values from ('2020-01-01') to ('2100-01-01');
{POLICY} {ENABLED} {FORCED}
"""
PARTITION_GUARDED = f"""
create policy own on note_recent using ({OWN});
alter table note_recent enable row level security;
"""
REFRESH = """
create function refresh_note_list() returns void language plpgsql security definer as
$$ begin {} end $$;
"""


# -- keys that reach past the policies -----------------------------------------------------------------------


class NotesWithSlug(Notes):
    async def add(self, user: str, title: str, body: str) -> str:
        try:
            return await super().add(user, title, body)
        except asyncpg.UniqueViolationError:
            return "you have a note of this title already"


class NotesWithReplies(Notes):
    async def reply(self, user: str, note: str, text: str) -> str:
        async with self.acting(user) as connection:
            try:
                await connection.execute("insert into reply (note, text) values ($1, $2)", note, text)
            except asyncpg.ForeignKeyViolationError:
                return "there is no such note"
        return "replied"


REPLIES = """
create table reply (
    owner text not null default current_setting('app.user_id'),
    note uuid not null,
    text text not null,
    {}
);
create policy own on reply using (owner = current_setting('app.user_id', true));
alter table reply enable row level security;
alter table reply force row level security;
"""


class Replier(NoteUser):
    world: NotesWithReplies

    @operation(note=observed("add"), text=secrets())
    async def reply(self, note: str, text: str) -> str:
        return await self.world.reply(self.user.user_id, note, text)


# -- numbers from one sequence -------------------------------------------------------------------------------


class NumberedNotes(Notes):
    async def number(self, user: str, title: str, body: str) -> dict[str, int]:
        async with self.acting(user) as connection:
            query = "insert into note (title, body) values ($1, $2) returning place"
            return {"note_id": await connection.fetchval(query, title, body)}


class NotesNumberedByOwner(NumberedNotes):
    async def number(self, user: str, title: str, body: str) -> dict[str, int]:
        async with self.acting(user) as connection:
            query = "insert into note (title, body) values ($1, $2) returning (select count(*) from note) + 1"
            return {"note_id": await connection.fetchval(query, title, body)}


class NumberedNoteUser(Surface[NumberedNotes]):
    @operation(title=keys(), body=secrets())
    async def add(self, title: str, body: str) -> dict[str, int]:
        return await self.world.number(self.user.user_id, title, body)

    @operation
    async def listing(self) -> list[dict[str, str]]:
        return await self.world.listing(self.user.user_id)


# -- a row for another owner ---------------------------------------------------------------------------------


class NotesForOthers(Notes):
    async def add_for(self, user: str, owner: str, title: str, body: str) -> str:
        async with self.acting(user) as connection:
            try:
                query = "insert into note (owner, title, body) values ($1, $2, $3)"
                await connection.execute(query, owner, title, body)
            except asyncpg.InsufficientPrivilegeError:
                return "refused"
        return "added"


class Importer(NoteUser):
    world: NotesForOthers

    @operation(owner=other_user(), title=keys(), body=secrets())
    async def import_with_owner(self, owner: str, title: str, body: str) -> str:
        return await self.world.add_for(self.user.user_id, owner, title, body)


EXHIBITS = {
    "security_not_enabled": Exhibit(
        surface=NoteUser, leaky=on(Notes), safe=on(Notes), leaky_schema=TABLE + POLICY, safe_schema=SAFE
    ),
    "security_not_forced": Exhibit(
        surface=NoteUser,
        leaky=on(Notes, as_owner=True),
        safe=on(Notes, as_owner=True),
        leaky_schema=UNFORCED,
        safe_schema=SAFE,
    ),
    "policy_using_true": Exhibit(
        surface=NoteUser,
        leaky=on(Notes),
        safe=on(Notes),
        leaky_schema=SAFE + "create policy support on note for select using (true);",
        safe_schema=SAFE,
    ),
    "policy_open_when_unset": Exhibit(
        surface=FrontPageReader,
        leaky=on(NotesWithFrontPage),
        safe=on(NotesWithFrontPage),
        leaky_schema=SAFE.replace(OWN, f"coalesce(current_setting('app.user_id', true), '') = '' or {OWN}"),
        safe_schema=SAFE,
    ),
    "view_without_invoker": Exhibit(
        surface=NoteUser,
        leaky=on(NotesByView),
        safe=on(NotesByView),
        leaky_schema=UNFORCED + VIEW.format(""),
        safe_schema=UNFORCED + VIEW.format("with (security_invoker = true)"),
    ),
    "security_definer_function": Exhibit(
        surface=NoteUser,
        leaky=on(NotesByFunction),
        safe=on(NotesByFunction),
        leaky_schema=UNFORCED + FUNCTION.format("security definer"),
        safe_schema=UNFORCED + FUNCTION.format("security invoker"),
    ),
    "materialized_view": Exhibit(
        surface=NoteUser,
        leaky=on(NotesByMaterializedView),
        safe=on(NotesByMaterializedView),
        leaky_schema=UNFORCED
        + "create materialized view note_list as select title, body, place from note;"
        + REFRESH.format("refresh materialized view note_list;"),
        safe_schema=UNFORCED + VIEW.format("with (security_invoker = true)") + REFRESH.format("null;"),
    ),
    "partition_read_directly": Exhibit(
        surface=NoteUser,
        leaky=on(NotesInPartition),
        safe=on(NotesInPartition),
        leaky_schema=PARTITIONED,
        safe_schema=PARTITIONED + PARTITION_GUARDED,
    ),
    "unique_key_over_all_owners": Exhibit(
        surface=NoteUser,
        leaky=on(NotesWithSlug),
        safe=on(NotesWithSlug),
        leaky_schema=SAFE + "alter table note add unique (title);",
        safe_schema=SAFE + "alter table note add unique (owner, title);",
    ),
    "foreign_key_tells_what_exists": Exhibit(
        surface=Replier,
        leaky=on(NotesWithReplies),
        safe=on(NotesWithReplies),
        leaky_schema=SAFE + REPLIES.format("foreign key (note) references note (id)"),
        safe_schema=SAFE
        + "alter table note add unique (owner, id);"
        + REPLIES.format("foreign key (owner, note) references note (owner, id)"),
    ),
    "gaps_in_shared_sequence": Exhibit(
        surface=NumberedNoteUser,
        leaky=on(NumberedNotes),
        safe=on(NotesNumberedByOwner),
        leaky_schema=SAFE,
        safe_schema=SAFE,
    ),
    "insert_without_check": Exhibit(
        surface=Importer,
        leaky=on(NotesForOthers),
        safe=on(NotesForOthers),
        leaky_schema=TABLE + f"create policy own on note using ({OWN}) with check (true);" + ENABLED + FORCED,
        safe_schema=SAFE,
    ),
}
