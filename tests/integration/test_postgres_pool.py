"""Pools: counted while they work, and closed with the test or with the loop, whichever ends first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from pytest_ssot_isolation.errors import DatabaseUnusable
from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.postgres.database import PostgresDatabase
from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    timeouts = DatabaseTimeoutConfig.for_environment("local", stop=1.0)
    with postgres.lease(Wanted(engine="postgres", spec="embedded", timeouts=timeouts)) as server:
        yield server


@pytest.fixture
def database(server: PostgresServer) -> Iterator[PostgresDatabase]:
    with server.new_database("CREATE TABLE t (id int)") as database:
        yield database


def test_a_pool_works_as_asyncpgs_own_and_as_the_application(database: PostgresDatabase) -> None:
    async def story() -> tuple[object, object]:
        async with database.pool(min_size=1, max_size=2) as pool, pool.acquire() as connection:
            who = await connection.fetchval("SELECT current_user")
            return who, await pool.fetchval("SELECT 1")

    assert asyncio.run(story()) == (database.user, 1)


def test_a_pool_may_be_for_another_role_and_take_every_option(database: PostgresDatabase) -> None:
    prepared: list[object] = []

    async def prepare(connection: asyncpg.Connection) -> None:
        prepared.append(connection)

    async def story() -> object:
        pool = await database.pool(dsn=database.owner_dsn, min_size=2, max_size=2, init=prepare)
        try:
            return await pool.fetchval("SELECT current_user")
        finally:
            await pool.close()

    assert str(asyncio.run(story())).endswith("_owner")
    assert len(prepared) == 2


def test_the_metrics_count_connects_waits_and_holds(database: PostgresDatabase) -> None:
    async def story() -> None:
        async with database.pool(min_size=1, max_size=1) as pool:

            async def hold() -> None:
                async with pool.acquire():
                    await asyncio.sleep(0.05)

            await asyncio.gather(hold(), hold(), hold())

    asyncio.run(story())
    metrics = database.metrics
    assert (metrics.connects.count, metrics.waits.count, metrics.holds.count) == (1, 3, 3)
    assert metrics.failures == 0
    assert metrics.waits.maximum >= 0.08, "the third waits for two others"
    assert 0.04 <= metrics.holds.median <= metrics.holds.p95 <= metrics.holds.maximum


def test_the_metrics_count_failures(database: PostgresDatabase) -> None:
    async def story() -> None:
        wrong = database.dsn.replace(database.password, "wrong")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await database.pool(dsn=wrong, min_size=1)
        async with database.pool(min_size=1, max_size=1) as pool, pool.acquire():
            with pytest.raises(TimeoutError):
                await pool.acquire(timeout=0.01)

    asyncio.run(story())
    assert database.metrics.failures == 2


def test_metrics_begin_anew_with_each_test(server: PostgresServer) -> None:
    async def story(database: PostgresDatabase) -> None:
        async with database.pool(min_size=1):
            pass

    for _ in range(2):
        with server.new_database() as database:
            asyncio.run(story(database))
            assert database.metrics.connects.count == 1


@pytest.mark.filterwarnings("error")
def test_a_pool_never_closed_goes_with_its_loop_and_leaves_no_session(server: PostgresServer) -> None:
    database = server.new_database()

    async def story() -> None:
        pool = await database.pool(min_size=2)
        await pool.fetchval("SELECT 1")

    asyncio.run(story())
    database.close()
    assert database.leftovers == ()


@pytest.mark.filterwarnings("error")
def test_a_pool_never_closed_goes_with_the_test_while_its_loop_rests(server: PostgresServer) -> None:
    database = server.new_database()
    with asyncio.Runner() as runner:

        async def story() -> None:
            pool = await database.pool(min_size=2)
            await pool.fetchval("SELECT 1")

        runner.run(story())
        database.close()
    assert database.leftovers == ()


@pytest.mark.filterwarnings("error")
def test_a_connection_never_given_back_does_not_hold_up_the_end_of_the_test(server: PostgresServer) -> None:
    database = server.new_database()
    kept: list[object] = []

    async def story() -> None:
        pool = await database.pool(min_size=1)
        kept.append(await pool.acquire())

    with asyncio.Runner() as runner:
        runner.run(story())
        database.close()
    with server.new_database() as after:
        after.apply("SELECT 1")


@pytest.mark.filterwarnings("error")
def test_a_database_may_be_closed_inside_the_loop_of_its_pool(server: PostgresServer) -> None:
    async def story() -> None:
        with server.new_database() as database:
            pool = await database.pool(min_size=1)
            assert await pool.fetchval("SELECT 1") == 1

    asyncio.run(story())


def test_a_pool_asked_for_outside_a_loop_says_what_to_do(database: PostgresDatabase) -> None:
    with pytest.raises(DatabaseUnusable, match=r"no event loop is running.*\n.*inside the `async def`"):
        database.pool()
