"""Family 11: ClickHouse shared by several tenants."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.generation.strategies import keys, secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit

if TYPE_CHECKING:
    from pytest_ssot_isolation.provisioning.clickhouse import ClickhouseDatabase

EVENTS = "create table event (tenant String, what String, size UInt64) engine = MergeTree order by tenant;"


class Events:
    """Events of all tenants in one table, each query with its filter; a client of its own for each use."""

    source = "event"
    count = "select count(), sum(size) from event where tenant = {tenant:String}"

    def __init__(self, database: ClickhouseDatabase) -> None:
        # A session takes one query at a time, and users ask at once; in the process there are no sessions.
        options = {"autogenerate_session_id": False} if "sessions" in database.capabilities else {}
        self._client = database.connect(**options)

    async def query(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        result = await asyncio.to_thread(self._client.query, query, parameters=parameters)
        return [tuple(row) for row in result.result_rows]

    async def add(self, tenant: str, what: str) -> None:
        await asyncio.to_thread(
            self._client.insert,
            "event",
            [[tenant, what, len(what)]],
            column_names=["tenant", "what", "size"],
            column_type_names=["String", "String", "UInt64"],
        )

    async def listing(self, tenant: str) -> list[str]:
        query = f"select what from {self.source} where tenant = {{tenant:String}} order by what"
        return [row[0] for row in await self.query(query, tenant=tenant)]

    async def usage(self, tenant: str) -> dict[str, int]:
        [(events, size)] = await self.query(self.count, tenant=tenant)
        return {"events": events, "size": size}

    def close(self) -> None:
        self._client.close()


def on(events: type[Events]) -> Callable[[ClickhouseDatabase], Any]:
    def make(database: ClickhouseDatabase) -> Any:
        @asynccontextmanager
        async def world() -> AsyncIterator[Events]:
            made = await asyncio.to_thread(events, database)
            try:
                yield made
            finally:
                await asyncio.to_thread(made.close)

        return world()

    return make


class EventUser(Surface[Events]):
    order_free = ("listing:*",)

    @operation(what=secrets())
    async def add(self, what: str) -> None:
        await self.world.add(self.user.user_id, what)

    @operation
    async def listing(self) -> list[str]:
        return await self.world.listing(self.user.user_id)

    @operation
    async def usage(self) -> dict[str, int]:
        return await self.world.usage(self.user.user_id)


class EventsWithoutFilter(Events):
    async def listing(self, tenant: str) -> list[str]:
        return [row[0] for row in await self.query("select what from event order by what")]


class UsageOfAll(Events):
    count = "select count(), sum(size) from event"


# -- a materialized view that adds up without the tenant -----------------------------------------------------

DAILY = """
create table daily (tenant String, events UInt64, size UInt64)
    engine = SummingMergeTree order by tenant;
create materialized view add_up to daily as
    select {} as tenant, count() as events, sum(size) as size from event group by tenant;
"""


class UsageByView(Events):
    count = "select sum(events), sum(size) from daily where tenant = {tenant:String}"


class UsageByViewOfAll(Events):
    count = "select sum(events), sum(size) from daily"


# -- a view with a parameter, and one that was made before there were tenants --------------------------------


class EventsByView(Events):
    async def listing(self, tenant: str) -> list[str]:
        query = "select what from recent(tenant = {tenant:String})"
        return [row[0] for row in await self.query(query, tenant=tenant)]


RECENT = "create view recent as select what from event where {} order by what;"


# -- a setting that names the tenant, left on a shared client ------------------------------------------------


class EventsBySetting(Events):
    """The tenant travels in a setting of each query; views read it, so that no query can forget it."""

    async def listing(self, tenant: str | None) -> list[str]:
        query = "select what from event where tenant = getSetting('log_comment') order by what"
        settings = {"log_comment": "" if tenant is None else tenant}
        result = await asyncio.to_thread(self._client.query, query, settings=settings)
        return [row[0] for row in result.result_rows]


class EventsBySettingOfClient(EventsBySetting):
    async def listing(self, tenant: str | None) -> list[str]:
        query = "select what from event where tenant = getSetting('log_comment') order by what"
        if tenant is not None:
            self._client.set_client_setting("log_comment", tenant)
        result = await asyncio.to_thread(self._client.query, query)
        return [row[0] for row in result.result_rows]


class EventUserOfPublicPage(EventUser):
    world: EventsBySetting

    @operation
    async def public_page(self) -> list[str]:
        return await self.world.listing(None)


# -- a temporary table, on a session that several users share ------------------------------------------------


class Uploads(Events):
    """Checks an upload in a table of its own before it is taken over."""

    def staged(self) -> str:
        return f"staged_{uuid.uuid4().hex}"

    async def upload(self, tenant: str, what: str, *, and_keep: bool) -> int:
        staged = self.staged()
        query = f"create table if not exists {staged} (what String) engine = Memory"
        await asyncio.to_thread(self._client.command, query)
        await asyncio.to_thread(
            self._client.insert, staged, [[what]], column_names=["what"], column_type_names=["String"]
        )
        if and_keep:
            [(count,)] = await self.query(f"select count() from {staged}")
            query = f"insert into event select {{tenant:String}}, what, length(what) from {staged}"
            await asyncio.to_thread(self._client.command, query, parameters={"tenant": tenant})
            await asyncio.to_thread(self._client.command, f"drop table {staged}")
            return int(count)
        return 0


class UploadsInOneTable(Uploads):
    def staged(self) -> str:
        return "staged_upload"


class Uploader(EventUser):
    world: Uploads

    @operation(what=secrets())
    async def check_upload(self, what: str) -> int:
        return await self.world.upload(self.user.user_id, what, and_keep=False)

    @operation(what=secrets())
    async def upload(self, what: str) -> int:
        return await self.world.upload(self.user.user_id, what, and_keep=True)


# -- a search by pattern that reaches into the next tenant ---------------------------------------------------


class Folders(Events):
    """Keeps tenant and folder in one column, as a path."""

    async def file(self, tenant: str, folder: str, what: str) -> None:
        await self.add(self.path(tenant, folder), what)

    def path(self, tenant: str, folder: str) -> str:
        return f"{tenant.encode().hex()}/{folder.encode().hex()}/"

    async def all_folders(self, tenant: str) -> list[str]:
        query = "select what from event where startsWith(tenant, {prefix:String}) order by what"
        return [row[0] for row in await self.query(query, prefix=self.prefix(tenant))]

    def prefix(self, tenant: str) -> str:
        return f"{tenant.encode().hex()}/"


class FoldersWithoutSeparator(Folders):
    def prefix(self, tenant: str) -> str:
        return tenant.encode().hex()


class FolderUser(Surface[Folders]):
    @operation(folder=keys(), what=secrets())
    async def file(self, folder: str, what: str) -> None:
        await self.world.file(self.user.user_id, folder, what)

    @operation
    async def all_folders(self) -> list[str]:
        return await self.world.all_folders(self.user.user_id)


EXHIBITS = {
    "query_without_tenant": Exhibit(
        surface=EventUser,
        leaky=on(EventsWithoutFilter),
        safe=on(Events),
        leaky_schema=EVENTS,
        safe_schema=EVENTS,
    ),
    "aggregate_past_the_filter": Exhibit(
        surface=EventUser, leaky=on(UsageOfAll), safe=on(Events), leaky_schema=EVENTS, safe_schema=EVENTS
    ),
    "materialized_view_without_tenant": Exhibit(
        surface=EventUser,
        leaky=on(UsageByViewOfAll),
        safe=on(UsageByView),
        leaky_schema=EVENTS + DAILY.format("''"),
        safe_schema=EVENTS + DAILY.format("event.tenant"),
    ),
    "view_that_ignores_its_parameter": Exhibit(
        surface=EventUser,
        leaky=on(EventsByView),
        safe=on(EventsByView),
        leaky_schema=EVENTS
        + RECENT.format("tenant = {tenant:String} or startsWith({tenant:String}, tenant)"),
        safe_schema=EVENTS + RECENT.format("tenant = {tenant:String}"),
    ),
    "setting_left_on_shared_client": Exhibit(
        surface=EventUserOfPublicPage,
        leaky=on(EventsBySettingOfClient),
        safe=on(EventsBySetting),
        leaky_schema=EVENTS,
        safe_schema=EVENTS,
    ),
    "staged_in_one_table": Exhibit(
        surface=Uploader,
        leaky=on(UploadsInOneTable),
        safe=on(Uploads),
        leaky_schema=EVENTS,
        safe_schema=EVENTS,
    ),
    "prefix_of_another_tenant": Exhibit(
        surface=FolderUser,
        leaky=on(FoldersWithoutSeparator),
        safe=on(Folders),
        leaky_schema=EVENTS,
        safe_schema=EVENTS,
    ),
}
