"""A password planted in each place where one may stand, and a whole session's output, looked through for it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer

SECRET = "planted-Secret/7"
QUOTED = "planted-Secret%2F7"

# Fails in each way in which a report shows more than a test's own words: locals, causes, leftovers, metrics.
SUITE = """
import asyncio, asyncpg, os, psycopg, pytest

def passwords(postgres):
    with open(os.environ["PASSWORDS"], "a") as file:
        print(postgres.password, postgres._open.owner.password, postgres.server._admin.password, sep="\\n", file=file)

def test_with_locals(postgres, clickhouse, user_context):
    passwords(postgres)
    dsn, owner, url, password = postgres.dsn, postgres.owner_dsn, postgres.url("psycopg"), postgres.password
    mine, other = postgres.dsn_for(user_context), clickhouse.dsn
    server, address, every = postgres.server, postgres._app, dict(dsn=dsn, nested=[owner, (mine,)])
    print(postgres, clickhouse, server, postgres.metrics)
    assert dsn == owner

def test_a_failing_statement(postgres):
    passwords(postgres)
    dsn = postgres.dsn
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT nothing")

def test_a_failing_script_with_a_cause(postgres):
    passwords(postgres)
    postgres.apply(f"ALTER ROLE nobody_of_that_name PASSWORD '{postgres.password}'")

def test_a_pool_that_cannot_connect(postgres):
    passwords(postgres)
    async def story():
        async with postgres.pool(dsn=postgres.dsn.replace(postgres.password, "wrong")) as pool:
            pass
    try:
        asyncio.run(story())
    finally:
        print(postgres.metrics)

def test_a_session_left_open(postgres):
    passwords(postgres)
    left = psycopg.connect(postgres.dsn)
    left.execute("SELECT 'password = ' || %s", (postgres.password,))
    postgres.close()
    print(postgres.leftovers)
    assert not postgres.leftovers

def a_migration_that_fails(dsn):
    raise RuntimeError("no such revision")

@pytest.mark.postgres(schema=a_migration_that_fails)
def test_a_failing_migration(postgres):
    pass

@pytest.mark.isolation
def test_a_check(isolation, postgres):
    from pytest_ssot_isolation import Surface, operation
    class App(Surface):
        @operation()
        async def ask(self):
            return await (await asyncpg.connect(self.world + "x")).close()
    isolation.check(App, world=lambda: postgres.dsn, examples=3)

def test_a_crash_of_the_worker(postgres):
    dsn = postgres.dsn
    if "PYTEST_XDIST_WORKER" in os.environ:
        os._exit(3)
    assert dsn is None
"""


@pytest.fixture(scope="module")
def other() -> Iterator[PostgresServer]:
    """A server that stands in for somebody else's, with the planted password."""
    wanted = Wanted(engine="postgres", spec="embedded", run_id=f"somebody-else-{os.getpid()}")
    with postgres.lease(wanted) as server:

        async def plant() -> None:
            connection = await asyncpg.connect(server._admin.url())
            await connection.execute(f"CREATE ROLE planted LOGIN CREATEROLE CREATEDB PASSWORD '{SECRET}'")
            await connection.execute("CREATE DATABASE app_test OWNER planted")
            await connection.close()

        asyncio.run(plant())
        yield server


def session(tmp_path: Path, place: str, dsn: str, *options: str, suite: str = SUITE) -> tuple[str, set[str]]:
    """Run a suite whose DSN stands in one place; returns all that it said, and the passwords of the run's own."""
    ini = ["[pytest]", "asyncio_default_fixture_loop_scope = function"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment |= {"PASSWORDS": str(tmp_path / "passwords"), "SSOT_CLICKHOUSE": "embedded"}
    environment.pop("CI", None)
    if place == "option":
        options = (*options, f"--ssot-postgres={dsn}")
    elif place == "environment":
        environment["SSOT_POSTGRES"] = dsn
    else:
        ini.append(f"ssot_postgres = {dsn}")
    (tmp_path / "pytest.ini").write_text("\n".join(ini))
    (tmp_path / "test_suite.py").write_text(suite)
    reports = [tmp_path / f"report.{kind}" for kind in ("json", "md")]
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "--ssot-seed=1",
                "-vv",
                "-l",
                "--tb=long",
                "-rA",
            ),
            *options,
            *(f"--ssot-report={report}" for report in reports),
            f"--junitxml={tmp_path / 'junit.xml'}",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
        timeout=120,
    )
    files = [file for file in (*reports, tmp_path / "junit.xml") if file.exists()]
    said = [done.stdout, done.stderr, *(file.read_text() for file in files)]
    written = tmp_path / "passwords"
    return "\n".join(said), set(written.read_text().split()) if written.exists() else set()


@pytest.mark.parametrize(
    ("place", "workers"),
    [("option", ()), ("environment", ()), ("ini", ()), ("option", ("-n", "2"))],
    ids=["option", "environment", "ini", "option with xdist"],
)
def test_a_session_full_of_failures_shows_no_password(
    other: PostgresServer, tmp_path: Path, place: str, workers: tuple[str, ...]
) -> None:
    dsn = other._admin.as_role("planted", SECRET).at("app_test").url()
    said, own = session(tmp_path, place, dsn, *workers)

    assert re.search(r"7 failed, 1 error", said), said
    assert own >= {SECRET}, "the suite did not get as far as its databases"
    assert len(own) >= 3
    for password in (QUOTED, *own):
        assert password not in said, said[max(0, said.index(password) - 500) : said.index(password) + 100]


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://planted:wrong-{QUOTED}@HOST/app_test",
        f"postgresql://planted:{QUOTED}@127.0.0.1:1/app_test",
        f"postgresql://planted:{QUOTED}@HOST/production",
        f"postgresql://planted:{QUOTED}@127.0.0.1:port/app_test",
        f"mysql://planted:{QUOTED}@HOST/app_test",
        f"postgresql://planted@HOST/app_test?password={QUOTED}x",
    ],
    ids=["wrong", "silent", "unmarked", "garbled", "foreign", "in a parameter"],
)
def test_a_dsn_that_cannot_be_used_shows_no_password(other: PostgresServer, tmp_path: Path, dsn: str) -> None:
    dsn = dsn.replace("HOST", f"127.0.0.1:{other._admin.port}")
    said, _ = session(tmp_path, "environment", dsn, suite="def test_it(postgres): pass")

    assert "1 error" in said, said
    for password in (SECRET, QUOTED):
        assert password not in said, said[max(0, said.index(password) - 500) : said.index(password) + 100]
