"""A test's own ClickHouse database behaves the same in each way of having a server, skips aside."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from pytest_ssot_isolation.errors import DatabaseUnusable, IsolationError, NotATestDatabase
from pytest_ssot_isolation.provisioning import clickhouse, docker_engine
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.clickhouse import ClickhouseDatabase, ClickhouseServer

SCHEMA = Path(__file__).parents[2] / "fixtures" / "clickhouse" / "events.sql"
IMAGE = os.environ.get("SSOT_CLICKHOUSE_IMAGE") or "ssot-isolation/clickhouse-standin:26.9"
PROTECTED = {"events": "tenant_id"}


@dataclass(frozen=True)
class User:
    user_id: str
    tenant_id: str | None = None


def container() -> ClickhouseServer:
    if reason := docker_engine.why_not():
        pytest.skip(reason)
    if IMAGE.startswith("ssot-isolation/") and not docker_engine.has_image(IMAGE):
        pytest.skip(f"the image {IMAGE} is not here: python .ci/build_images.py")
    return clickhouse.lease(Wanted(engine="clickhouse", spec="container", image=IMAGE))


@pytest.fixture(
    scope="module",
    params=[
        "embedded",
        pytest.param("container", marks=pytest.mark.container),
        pytest.param("dsn", marks=pytest.mark.container),
    ],
)
def server(request: pytest.FixtureRequest) -> Iterator[ClickhouseServer]:
    if request.param == "embedded":
        with clickhouse.lease(Wanted(engine="clickhouse", spec="embedded")) as embedded:
            yield embedded
        return
    with container() as contained:
        if request.param == "container":
            yield contained
            return
        given = contained.new_database()
        with given, clickhouse.lease(Wanted(engine="clickhouse", spec=given.dsn)) as by_dsn:
            yield by_dsn


@pytest.fixture
def database(server: ClickhouseServer) -> Iterator[ClickhouseDatabase]:
    with server.new_database(SCHEMA) as fresh:
        yield fresh


def rows(client: Any, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(query).result_rows]


def insert(database: ClickhouseDatabase, *tenants: str) -> None:
    client = database.connect()
    client.insert("events", [[tenant, "u"] for tenant in tenants], column_names=["tenant_id", "user_id"])


def test_the_server_says_what_it_is(server: ClickhouseServer) -> None:
    assert server.engine == "clickhouse"
    assert server.way in ("embedded", "container", "dsn")
    assert int(server.version.split(".")[0]) >= 24


def test_the_dsn_is_one_for_the_driver(database: ClickhouseDatabase) -> None:
    client = clickhouse_connect.get_client(dsn=database.dsn)

    assert rows(client, "SELECT currentDatabase()") == [(database.name,)]
    client.close()


def test_a_database_has_the_tables_of_its_schema_and_no_rows(database: ClickhouseDatabase) -> None:
    client = database.connect()

    assert rows(client, "SHOW TABLES") == [("count_events",), ("events",), ("events_by_user",)]
    assert rows(client, "SELECT count() FROM events") == [(0,)]


def test_the_database_of_the_next_test_has_none_of_this_ones_rows(server: ClickhouseServer) -> None:
    with server.new_database(SCHEMA) as first:
        insert(first, "A")
    with server.new_database(SCHEMA) as second:
        assert rows(second.connect(), "SELECT count() FROM events") == [(0,)]


def test_two_databases_at_once_are_two(server: ClickhouseServer, database: ClickhouseDatabase) -> None:
    with server.new_database(SCHEMA) as other:
        insert(other, "A")

        assert other.name != database.name
        assert rows(database.connect(), "SELECT count() FROM events") == [(0,)]


def test_a_script_is_run_statement_by_statement(database: ClickhouseDatabase) -> None:
    database.apply("CREATE TABLE t (x String) ENGINE = Memory; INSERT INTO t VALUES ('a;b'); -- and; so on")

    assert rows(database.connect(), "SELECT x FROM t") == [("a;b",)]


def test_a_schema_may_be_a_list_of_files_and_scripts(server: ClickhouseServer) -> None:
    more = "INSERT INTO events (tenant_id, user_id) VALUES ('A', 'u')"
    with server.new_database([SCHEMA, more]) as database:
        assert rows(database.connect(), "SELECT what FROM events") == [("seen; not changed",)]


def test_a_schema_may_be_a_migration_tool_that_is_given_the_dsn(server: ClickhouseServer) -> None:
    def migrate(dsn: str) -> None:
        client = clickhouse_connect.get_client(dsn=dsn)
        client.command("CREATE TABLE migrated (x Int8) ENGINE = Memory")
        client.close()

    with server.new_database(migrate) as database:
        assert rows(database.connect(), "SHOW TABLES") == [("migrated",)]


def test_a_wrong_statement_is_told_and_leaves_no_database_behind(server: ClickhouseServer) -> None:
    with server.new_database() as observer:
        client = observer.connect()
        before = rows(client, "SHOW DATABASES")
        with pytest.raises(Exception, match=r"Missing columns|UNKNOWN_IDENTIFIER|Unknown expression"):
            server.new_database("CREATE TABLE t (x Int8) ENGINE = Memory; SELECT nothing FROM t")

        assert rows(client, "SHOW DATABASES") == before


def test_reset_empties_what_is_filled_and_keeps_tables_and_clients(database: ClickhouseDatabase) -> None:
    client = database.connect()
    insert(database, "A", "B")
    assert rows(client, "SELECT sum(times) FROM events_by_user") == [(2,)]

    database.reset()

    assert rows(client, "SELECT count() FROM events") == [(0,)]
    assert rows(client, "SELECT sum(times) FROM events_by_user") == [(0,)]
    insert(database, "C")
    assert rows(client, "SELECT sum(times) FROM events_by_user") == [(1,)]


def test_reset_leaves_the_event_loop_free(database: ClickhouseDatabase) -> None:
    insert(database, "A")

    async def reset() -> int:
        turns = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        await database.reset_async()
        ticking.cancel()
        return turns

    assert asyncio.run(reset()) > 1
    assert rows(database.connect(), "SELECT count() FROM events") == [(0,)]


def test_closing_ends_clients_and_database_and_may_be_repeated(server: ClickhouseServer) -> None:
    database = server.new_database(SCHEMA)
    client = database.connect()
    database.close()
    database.close()

    with server.new_database() as observer:
        assert (database.name,) not in rows(
            observer.connect(), "SHOW DATABASES"
        ) or database.name == observer.name
    if server.way == "embedded":
        with pytest.raises(Exception, match="closed"):
            client.query("SELECT 1")


def test_a_user_sees_the_rows_of_the_users_tenant_and_no_others(server: ClickhouseServer) -> None:
    server.require("row_policy")
    with server.new_database(SCHEMA, protect=PROTECTED) as database:
        insert(database, "A", "A", "B", "")
        seen = "SELECT tenant_id FROM events"

        assert rows(database.connect_as(User("alice", "A")), seen) == [("A",), ("A",)]
        assert rows(database.connect_as(User("bob", "B")), seen) == [("B",)]
        assert rows(database.connect_as(User("carol", "C")), seen) == []
        assert rows(database.connect(), seen) == []


def test_a_user_without_a_tenant_is_a_tenant_of_one(server: ClickhouseServer) -> None:
    server.require("row_policy")
    with server.new_database(SCHEMA, protect=PROTECTED) as database:
        insert(database, "alice", "bob")

        assert rows(database.connect_as(User("alice")), "SELECT tenant_id FROM events") == [("alice",)]


@pytest.mark.parametrize("tenant", ["it's", 'a"b', "a\\b", "a' OR '1'='1", "%", "Ä\u0301", "a`b", "x" * 255])
def test_a_tenant_by_any_name_is_that_tenant(server: ClickhouseServer, tenant: str) -> None:
    server.require("row_policy")
    with server.new_database(SCHEMA, protect=PROTECTED) as database:
        insert(database, tenant, "plain")

        assert rows(database.connect_as(User("u", tenant)), "SELECT tenant_id FROM events") == [(tenant,)]


def test_protect_before_anything_is_handed_out_is_as_good_as_the_parameter(server: ClickhouseServer) -> None:
    server.require("row_policy")
    with server.new_database(SCHEMA) as database:
        database.apply("INSERT INTO events (tenant_id, user_id) VALUES ('A', 'u'), ('B', 'u')")
        database.protect("events", "tenant_id")

        assert rows(database.connect_as(User("u", "A")), "SELECT tenant_id FROM events") == [("A",)]


def test_protection_ends_with_the_database(server: ClickhouseServer) -> None:
    server.require("row_policy")
    with server.new_database(SCHEMA, protect=PROTECTED):
        pass
    with server.new_database(SCHEMA) as database:
        insert(database, "A")

        assert rows(database.connect(), "SELECT tenant_id FROM events") == [("A",)]


def test_a_users_own_login_cannot_name_another_tenant(server: ClickhouseServer) -> None:
    server.require("users", "row_policy")
    with server.new_database(SCHEMA, protect=PROTECTED) as database:
        insert(database, "A", "B")
        alice = database.connect_as(User("alice", "A"))

        with pytest.raises(Exception, match="log_comment"):
            alice.query("SELECT * FROM events", settings={"log_comment": "B"})


def test_each_capability_is_had_or_skipped_with_the_way_to_get_it(server: ClickhouseServer) -> None:
    for capability in ("users", "row_policy", "quota", "query_cache", "sessions", "http", "async"):
        if capability in server.capabilities:
            server.require(capability)
            continue
        with pytest.raises(
            pytest.skip.Exception, match=rf"lacks {capability}\. To get it: {capability}: \w+"
        ):
            server.require(capability)


def test_the_capabilities_are_those_that_were_seen(server: ClickhouseServer) -> None:
    if server.way == "embedded":
        assert server.capabilities == {"row_policy"}
    else:
        assert server.capabilities >= {"http", "sessions"}


def test_an_unknown_capability_is_an_error_and_no_skip(database: ClickhouseDatabase) -> None:
    with pytest.raises(ValueError, match=r"unknown capabilities \['flying'\]; there are \['async'"):
        database.require("flying")


def test_the_async_client_works_where_it_is_said_to(database: ClickhouseDatabase) -> None:
    database.require("async")

    async def ask() -> list[Any]:
        client = await clickhouse_connect.get_async_client(dsn=database.dsn)
        try:
            return list((await client.query("SELECT currentDatabase()")).result_rows)
        finally:
            await client.close()

    assert [tuple(row) for row in asyncio.run(ask())] == [(database.name,)]


def test_no_text_of_ours_shows_the_password(server: ClickhouseServer, database: ClickhouseDatabase) -> None:
    database.require("http")
    from pytest_ssot_isolation.provisioning.clickhouse.address import Address

    address = Address.parse(database.dsn)
    texts = [repr(server), repr(database), str(vars(database)), *server.notes]
    with pytest.raises(DatabaseUnusable) as told:
        database.apply(f"SELECT '{address.password}' FROM no_such_table")
    texts.append(str(told.value))

    assert address.password
    assert not [text for text in texts if address.password in text]


def test_a_dsn_with_a_wrong_password_is_told_at_once(database: ClickhouseDatabase) -> None:
    database.require("http")
    from pytest_ssot_isolation.provisioning.clickhouse.address import Address

    wrong = Address.parse(database.dsn).as_user("ssot", "open-sesame").dsn
    with pytest.raises(IsolationError, match="refuses user or password") as told:
        clickhouse.lease(Wanted(engine="clickhouse", spec=wrong))

    assert "open-sesame" not in str(told.value)


def test_a_dsn_to_a_database_that_nobody_marked_is_refused(database: ClickhouseDatabase) -> None:
    database.require("http")
    from pytest_ssot_isolation.provisioning.clickhouse.address import Address

    live = Address.parse(database.dsn).at("default")
    with pytest.raises(NotATestDatabase, match=r"'default' at .* is not marked for tests"):
        clickhouse.lease(Wanted(engine="clickhouse", spec=live.dsn))

    database.apply("CREATE TABLE default.ssot_isolation_may_write (x Int8) ENGINE = Memory")
    try:
        clickhouse.lease(Wanted(engine="clickhouse", spec=live.dsn)).close()
    finally:
        database.apply("DROP TABLE default.ssot_isolation_may_write")


def test_a_version_that_is_not_there_is_told(server: ClickhouseServer, database: ClickhouseDatabase) -> None:
    spec = "embedded" if server.way == "embedded" else database.dsn
    with pytest.raises(IsolationError, match=r"is version \d+.*and 99.9 was asked for"):
        clickhouse.lease(Wanted(engine="clickhouse", spec=spec, version="99.9"))
