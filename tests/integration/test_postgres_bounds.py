"""However many tests a worker runs: what they leave on the server stays within the bound that docs/limits.md states."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.postgres.server import USES, PostgresServer

NOTES = "CREATE TABLE notes (id serial PRIMARY KEY, body text); CREATE INDEX ON notes (body)"
WRITE = "INSERT INTO notes (body) SELECT 'note ' || n FROM generate_series(1, 20) n"
LOOK = """
    SELECT (SELECT count(*) FROM pg_database WHERE datname LIKE 'ssot%'),
           (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ssot-isolation'
            AND pid <> pg_backend_pid()),
           pg_database_size(current_database())"""

DATABASES = 4
"""Of one schema: its template, the one in use, the one that waits ready, and for a moment the one replaced."""
SESSIONS = 4
"""Of the package in one worker: one for making databases, one in each database but the template."""
MEGABYTES = 1.0
"""That dead rows may add to a database before it is replaced, for tests of 20 rows."""
PROCESS = 10.0
"""Megabytes that the worker itself may grow by."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with postgres.lease(Wanted(engine="postgres", spec="embedded", run_id="bounds")) as server:
        yield server


def resident() -> float:
    """Megabytes of this process that are in memory."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the system does not say how much memory a process has")


class Seen(NamedTuple):
    """The most that there was of each, and how often one database was used at most."""

    databases: int
    sessions: int
    grown: float
    process: float
    uses: int
    names: int


def run_tests(server: PostgresServer, tests: int) -> Seen:
    """Do what so many tests of 20 rows do, one after another, and look at the server now and then."""
    with server.new_database(NOTES) as looking:
        fresh = float(looking.ask("SELECT pg_database_size(current_database())")[0][0])
        uses = {looking.name: 1}
    looks: list[tuple[int, int, float]] = []
    before = 0.0
    for number in range(1, tests):
        with server.new_database(NOTES) as database:
            database.apply(WRITE)
            uses[database.name] = uses.get(database.name, 0) + 1
            # Also at the end of a database's life, when it is fullest.
            if number % 50 == 0 or uses[database.name] == USES - 1:
                ((databases, sessions, size),) = database.ask(LOOK)
                looks.append((databases, sessions, (float(size) - fresh) / 1e6))
                before = before or resident()
    databases, sessions, grown = (max(column) for column in zip(*looks, strict=True))
    return Seen(databases, sessions, grown, resident() - before, max(uses.values()), len(uses))


def hold_to_the_bound(seen: Seen) -> None:
    assert seen.databases <= DATABASES
    assert seen.sessions <= SESSIONS
    assert seen.grown <= MEGABYTES
    assert seen.process <= PROCESS
    assert seen.uses <= USES


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="only Linux tells a process's memory there"
)
def test_the_tests_of_one_worker_stay_within_the_stated_bound(server: PostgresServer) -> None:
    seen = run_tests(server, USES + 60)

    hold_to_the_bound(seen)
    assert seen.names == 2, "the first is used as long as it may be, and then replaced"
