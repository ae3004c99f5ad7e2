"""Each major version of PostgreSQL whose programs are on this machine gives tests the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace

import asyncpg
import pytest

from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.postgres import programs
from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer

NOTES = """
    CREATE TABLE moods (name text PRIMARY KEY);
    INSERT INTO moods VALUES ('good');
    CREATE TABLE notes (id serial PRIMARY KEY, tenant text NOT NULL, mood text REFERENCES moods);
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON notes USING (tenant = current_setting('app.tenant_id', true));
"""
WRITE = (
    "INSERT INTO moods VALUES ('bad'); INSERT INTO notes (tenant, mood) VALUES ('A', 'bad'), ('B', 'good')"
)


@pytest.fixture(scope="module", params=range(programs.OLDEST, 19))
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    version = str(request.param)
    found = programs.find(version)
    if isinstance(found, str):
        pytest.skip(f"{found}; install postgresql-{version} to run this")
    with postgres.lease(Wanted(engine="postgres", spec="embedded", version=version)) as server:
        assert server.version.startswith(version)
        yield server


def fetch(dsn: str, query: str) -> list[tuple[object, ...]]:
    async def talk() -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(dsn)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    return asyncio.run(talk())


def test_a_database_is_used_again_with_the_rows_of_its_schema_and_no_others(server: PostgresServer) -> None:
    names = set()
    for _ in range(3):
        with server.new_database(NOTES) as database:
            names.add(database.name)
            assert database.ask("SELECT name FROM moods") == [("good",)]
            assert database.ask("SELECT count(*), max(id) FROM notes") == [(0, None)]
            database.apply(WRITE)
            assert database.ask("SELECT min(id) FROM notes") == [(1,)]
    assert len(names) == 1


@pytest.mark.parametrize(
    "change", ["ALTER TABLE notes ADD COLUMN more text", "DROP POLICY own ON notes", "DROP TABLE notes"]
)
def test_a_changed_structure_is_never_handed_on(server: PostgresServer, change: str) -> None:
    with server.new_database(NOTES) as unchanged:
        name = unchanged.name
    with server.new_database(NOTES) as changed:
        assert changed.name == name
        changed.apply(change)
    with server.new_database(NOTES) as fresh:
        assert fresh.name != name
        fresh.apply(WRITE)
        assert fetch(fresh.dsn, "SELECT * FROM notes") == [], "the policy holds"


def test_a_user_of_its_own_reads_what_its_tenant_may(server: PostgresServer) -> None:
    with server.new_database(NOTES) as database:
        database.apply(WRITE)
        alice = database.dsn_for(SimpleNamespace(user_id="alice", tenant_id="A"))
        assert fetch(alice, "SELECT tenant FROM notes") == [("A",)]
        assert fetch(database.dsn, "SELECT tenant FROM notes") == []
        powers = "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        assert fetch(alice, powers) == fetch(database.dsn, powers) == [(False, False)]
