"""What a connection still carries when the next user gets it, on a real PostgreSQL and through each driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pytest_ssot_isolation import Surface, operation
from pytest_ssot_isolation.errors import InconclusiveCheck, LeakFound, SurfaceError
from pytest_ssot_isolation.harness import Isolation
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Finding, Verdict
from pytest_ssot_isolation.options import Settings
from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.postgres.address import Address
from pytest_ssot_isolation.provisioning.postgres.database import PostgresDatabase
from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresDatabase]:
    timeouts = DatabaseTimeoutConfig.for_environment("local", stop=1.0)
    with (
        postgres.lease(Wanted(engine="postgres", spec="embedded", timeouts=timeouts)) as server,
        server.new_database("CREATE TABLE t (id int)") as database,
    ):
        grant = f'GRANT pg_read_all_data TO "{Address.parse(database.owner_dsn).user}"'
        asyncio.run(as_admin(server, grant))
        yield database


async def as_admin(server: PostgresServer, statement: str) -> None:
    connection = await asyncpg.connect(server._admin.url())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def isolation(tmp_path: Path) -> Isolation:
    return Isolation(settings=Settings(seed=7), test_id="test_pool.py::test_hygiene", root=tmp_path)


def checked(isolation: Isolation, surface: type[Surface[Any]], world: Any, **options: Any) -> Report:
    settings: dict[str, Any] = {"examples": 4, "users": 2, "calls": 6, "ids": "plain", "seed": 7} | options
    try:
        return isolation.check(surface, world=world, **settings)
    except (LeakFound, InconclusiveCheck) as told:
        return told.report


def residue(report: Report) -> dict[str, Finding]:
    return {finding.path: finding for finding in report.findings if finding.oracle == "residue"}


class Forgetful(asyncpg.Connection):  # type: ignore[misc]
    """A connection whose pool gives it back as it is, as a team switches the reset off for speed."""

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._top_xact = None


def pool_of(database: PostgresDatabase, **options: Any) -> Callable[[], Any]:
    @asynccontextmanager
    async def world() -> AsyncIterator[Any]:
        given: dict[str, Any] = {"min_size": 1, "max_size": 1, "connection_class": Forgetful} | options
        async with asyncpg.create_pool(database.owner_dsn, **given) as pool:
            yield pool

    return world


def surface_that(*statements: str) -> type[Surface[Any]]:
    """A surface with one operation that runs statements; ``{user}`` stands for the user's id."""

    class Works(Surface[Any]):
        @operation
        async def work(self) -> int:
            async with self.world.acquire() as connection:
                for statement in statements:
                    await connection.execute(statement.replace("{user}", self.user.user_id))
            return 1

    return Works


LEFT = {
    "a setting of the application": (
        ("SELECT set_config('app.user_id', '{user}', false)",), "setting app.user_id", "leak",
    ),
    "a setting of a name of its own": (("SET shop.buyer = '{user}'",), "setting shop.buyer", "leak"),
    "a role": (("SET ROLE pg_read_all_data",), "role", "leak"),
    "a search_path": (("SET search_path = elsewhere",), "search_path", "leak"),
    "a temporary table": (("CREATE TEMP TABLE IF NOT EXISTS basket (x int)",), "temporary table", "leak"),
    "a channel": (("LISTEN orders",), "channel", "leak"),
    "an advisory lock": (("SELECT pg_advisory_lock(42)",), "advisory lock", "leak"),
    "an open transaction": (("BEGIN",), "transaction", "leak"),
    "a server's setting": (("SET statement_timeout = '9s'",), "setting statement_timeout", "hint"),
}  # fmt: skip


@pytest.mark.parametrize(("statements", "path", "severity"), LEFT.values(), ids=LEFT)
def test_what_a_user_leaves_on_a_connection_is_told_by_its_name(
    isolation: Isolation, database: PostgresDatabase, statements: tuple[str, ...], path: str, severity: str
) -> None:
    report = checked(isolation, surface_that(*statements), pool_of(database))

    found = residue(report)
    assert list(found) == [path]
    assert found[path].severity == severity
    assert (found[path].victim, found[path].offender) == ("alice", "bob")
    assert len(found[path].calls) == 2
    assert "the same in 5 of 5 replays" in found[path].shrunk
    assert report.verdict is (Verdict.LEAK if severity == "leak" else Verdict.CLEAN)


CLEAN = {
    name: statements
    for name, (statements, _, _) in LEFT.items()
    if name not in ("a role", "a temporary table")  # asyncpg's own reset leaves both.
}


@pytest.mark.parametrize("statements", CLEAN.values(), ids=CLEAN)
@pytest.mark.filterwarnings("ignore:Resetting connection with an active transaction")
def test_what_the_pool_resets_is_no_finding(
    isolation: Isolation, database: PostgresDatabase, statements: tuple[str, ...]
) -> None:
    world = pool_of(database, connection_class=asyncpg.Connection)

    report = checked(isolation, surface_that(*statements), world)

    assert (report.verdict, report.findings) == (Verdict.CLEAN, ())


# -- pools that the author names ---------------------------------------------------------------------

TENANT = "SELECT set_config('app.tenant_id', '{user}', false)"


def psycopg_world(isolation: Isolation, database: PostgresDatabase, **options: Any) -> Callable[[], Any]:
    psycopg_pool = pytest.importorskip("psycopg_pool")

    @asynccontextmanager
    async def world() -> AsyncIterator[Any]:
        pool = psycopg_pool.AsyncConnectionPool(
            database.owner_dsn, min_size=1, max_size=1, open=False, **options
        )
        async with isolation.watch_pool(pool):
            await pool.wait()
            yield pool

    return world


class ByPsycopg(Surface[Any]):
    """Sets its tenant for the session."""

    @operation
    async def work(self) -> int:
        async with self.world.connection() as connection:
            await connection.execute(TENANT.replace("{user}", self.user.user_id))
        return 1


def test_a_psycopg_pool_is_looked_at_when_it_is_named(
    isolation: Isolation, database: PostgresDatabase
) -> None:
    found = residue(checked(isolation, ByPsycopg, psycopg_world(isolation, database)))

    assert list(found) == ["setting app.tenant_id"]
    assert "a pooled psycopg connection" in found["setting app.tenant_id"].explanation


def test_a_psycopg_pool_that_resets_is_clean(isolation: Isolation, database: PostgresDatabase) -> None:
    async def reset(connection: Any) -> None:
        await connection.execute("RESET ALL")
        await connection.commit()

    report = checked(isolation, ByPsycopg, psycopg_world(isolation, database, reset=reset))

    assert (report.verdict, report.findings) == (Verdict.CLEAN, ())


class ByAlchemy(Surface[Any]):
    """Sets its tenant for the session, and commits."""

    local = "false"

    @operation
    async def work(self) -> int:
        from sqlalchemy import text

        async with self.world.begin() as connection:
            setting = text(f"SELECT set_config('app.tenant_id', :tenant, {self.local})")
            await connection.execute(setting, {"tenant": self.user.user_id})
        return 1


class ByAlchemyInItsTransaction(ByAlchemy):
    local = "true"


def alchemy_world(isolation: Isolation, database: PostgresDatabase) -> Callable[[], Any]:
    aio = pytest.importorskip("sqlalchemy.ext.asyncio")

    @asynccontextmanager
    async def world() -> AsyncIterator[Any]:
        url = database.owner_dsn.replace("postgresql://", "postgresql+asyncpg://").partition("?")[0]
        engine = isolation.watch_pool(aio.create_async_engine(url, pool_size=1, max_overflow=0))
        yield engine
        await engine.dispose()

    return world


def test_an_engine_of_sqlalchemy_is_looked_at_when_it_is_named(
    isolation: Isolation, database: PostgresDatabase
) -> None:
    found = residue(checked(isolation, ByAlchemy, alchemy_world(isolation, database)))

    assert list(found) == ["setting app.tenant_id"]
    assert found["setting app.tenant_id"].severity == "leak"


def test_an_engine_whose_settings_end_with_the_transaction_is_clean(
    isolation: Isolation, database: PostgresDatabase
) -> None:
    report = checked(isolation, ByAlchemyInItsTransaction, alchemy_world(isolation, database))

    assert (report.verdict, report.findings) == (Verdict.CLEAN, ())


def test_nothing_of_the_look_is_left_in_asyncpg(isolation: Isolation, database: PostgresDatabase) -> None:
    from asyncpg.pool import PoolConnectionHolder

    before = PoolConnectionHolder.acquire
    checked(isolation, surface_that("SELECT 1"), pool_of(database), examples=1)

    assert PoolConnectionHolder.acquire is before


def test_what_is_no_pool_is_refused_with_the_remedy(isolation: Isolation) -> None:
    with pytest.raises(SurfaceError, match=r"cannot look into builtins\.dict"):
        isolation.watch_pool({})


class Lends(Surface[Any]):
    """The first to come takes a connection, and all the others use it beside him."""

    @operation
    async def work(self) -> int:
        if self.lent is None:
            async with self.world["pool"].acquire() as connection:
                self.world["lent"] = connection
                await connection.fetchval("SELECT pg_sleep(0.001)")
            self.world["lent"] = None
            return 1
        return int(await self.lent.fetchval("SELECT 1"))

    @property
    def lent(self) -> Any:
        return self.world.get("lent")


def test_one_connection_in_two_users_hands_is_a_hint(
    isolation: Isolation, database: PostgresDatabase
) -> None:
    @asynccontextmanager
    async def world() -> AsyncIterator[Any]:
        async with asyncpg.create_pool(database.owner_dsn, min_size=1, max_size=1) as pool:
            yield {"pool": pool}

    report = checked(isolation, Lends, world, oracles=("canary", "aliasing"), examples=12)

    told = [(f.severity, f.path) for f in report.findings if f.oracle == "aliasing"]
    assert told == [("hint", "asyncpg connection")]
