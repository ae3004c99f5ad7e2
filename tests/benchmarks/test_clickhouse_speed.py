"""How long embedded ClickHouse takes; printed, and held to a bar only where SSOT_BENCHMARK_BARS is set."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import pytest

from pytest_ssot_isolation.provisioning import clickhouse
from pytest_ssot_isolation.provisioning.base import Wanted

pytest.importorskip(
    "chdb", reason="chdb-core is not installed: pip install 'pytest-ssot-isolation[embedded]'"
)

READY_BAR = 0.9  # Seconds from asking to the first answer, in a fresh process with a warm file cache.
DATABASE_BAR = 0.015  # Seconds for a test's database: made, one table, dropped.

READY = """
import time
began = time.perf_counter()
from pytest_ssot_isolation.provisioning import clickhouse
from pytest_ssot_isolation.provisioning.base import Wanted
clickhouse.lease(Wanted(engine="clickhouse", spec="embedded"))
print(time.perf_counter() - began)
"""
TABLE = "CREATE TABLE t (x Int64) ENGINE = MergeTree ORDER BY x"


def told(what: str, seconds: list[float], bar: float) -> None:
    median, least = statistics.median(seconds), min(seconds)
    print(f"\n{what}: median {median * 1e3:.1f} ms, least {least * 1e3:.1f} ms, bar {bar * 1e3:.0f} ms")
    if os.environ.get("SSOT_BENCHMARK_BARS"):
        assert median <= bar


def test_the_engine_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    def fresh() -> float:
        done = subprocess.run([sys.executable, "-c", READY], capture_output=True, text=True, check=True)
        return float(done.stdout)

    fresh()  # Fills the file cache.
    seconds = [fresh() for _ in range(5)]
    with capsys.disabled():
        told("chDB ready", seconds, READY_BAR)


def test_a_tests_database_is_made_and_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    with clickhouse.lease(Wanted(engine="clickhouse", spec="embedded")) as server:

        def once(protect: dict[str, str]) -> float:
            began = time.perf_counter()
            server.new_database(TABLE, protect=protect).close()
            return time.perf_counter() - began

        for protect in ({}, {"t": "x"}):
            once(protect)  # The first table loads what all others use.
            seconds = [once(protect) for _ in range(50)]
            with capsys.disabled():
                told(f"database on chDB{', protected' if protect else ''}", seconds, DATABASE_BAR)


def test_a_reset_of_ten_tables(capsys: pytest.CaptureFixture[str]) -> None:
    script = ";".join(TABLE.replace(" t ", f" t{number} ") for number in range(10))
    with (
        clickhouse.lease(Wanted(engine="clickhouse", spec="embedded")) as server,
        server.new_database(script) as database,
    ):

        def once(filled: int) -> float:
            for number in range(filled):
                database.apply(f"INSERT INTO t{number} VALUES (1)")
            began = time.perf_counter()
            database.reset()
            return time.perf_counter() - began

        for filled in (0, 1, 10):
            once(filled)
            seconds = [once(filled) for _ in range(20)]
            with capsys.disabled():
                median = statistics.median(seconds) * 1e3
                print(f"\nreset on chDB, {filled} of 10 tables filled: median {median:.1f} ms")
        assert database.connect().command("SELECT count() FROM t0") == 0
