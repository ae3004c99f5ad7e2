"""What PostgreSQL costs a test run: figures, printed with ``pytest -s``; no figure fails a test."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.postgres import kept, postmaster, programs
from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer
from tests.integration import test_postgres_bounds as bounds

TABLES = "".join(
    f"CREATE TABLE t{number} (id serial PRIMARY KEY, tenant text, body text); CREATE INDEX ON t{number} (tenant);"
    for number in range(10)
)
WRITE = "INSERT INTO t1 (tenant, body) VALUES ('A', 'x')"


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ssot-bench-", dir="/dev/shm" if Path("/dev/shm").exists() else None))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres.lease(Wanted(engine="postgres", spec="embedded")) as server:
        yield server


def tell(what: str, seconds: list[float]) -> float:
    median = statistics.median(seconds)
    print(
        f"\n{what}: median {median * 1e3:.1f} ms, maximum {max(seconds) * 1e3:.1f} ms, {len(seconds)} times"
    )
    assert median > 0
    return median


def timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def lease_once(folder: Path, name: str) -> float:
    began = time.perf_counter()
    server = postgres.lease(Wanted(engine="postgres", spec="embedded", run_id=name, folder=folder))
    seconds = time.perf_counter() - began
    server.close()
    return seconds


def connect_once(dsn: str) -> None:
    async def talk() -> None:
        await (await asyncpg.connect(dsn)).close()

    asyncio.run(talk())


def start_bare(folder: Path, found: programs.Programs, data: Path | None, password: str) -> float:
    """What is left when only the programs run: ``initdb`` or ``cp``, ``postgres``, and the first connection."""
    home = folder / f"bare-{time.monotonic_ns()}"
    home.mkdir(mode=0o711)
    runner = postmaster._Runner.fit_for(home, found.folder)
    deadline = time.monotonic() + 20
    began = time.perf_counter()
    if data is not None:
        subprocess.run(["cp", "-Rp", str(data), str(home / "data")], check=True)
    else:
        password = postmaster._initialise(home, home / "data", runner, found.major, deadline)
    running = postmaster._run(home, home / "data", runner, found.major, password, deadline)
    connect_once(f"postgresql://postgres:{password}@127.0.0.1:{running.facts['port']}/postgres")
    seconds = time.perf_counter() - began
    running.stop()
    return seconds


def test_a_cold_start_and_one_from_a_kept_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = programs.find()
    assert isinstance(found, programs.Programs)
    cold, cold_bare = [], []
    for number in range(3):
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / f"cache{number}"))
        cold.append(lease_once(folder, f"cold {number}"))
        cold_bare.append(start_bare(folder, found, None, ""))
    place = kept.folder(found.version)
    assert place is not None
    password = (place / "password").read_text()
    warm, bare = [], []
    for number in range(9):
        warm.append(lease_once(folder, f"warm {number}"))
        bare.append(start_bare(folder, found, place / "data", password))

    for name, ours, theirs in (("cold", cold, cold_bare), ("from a kept folder", warm, bare)):
        mine = tell(f"start {name}, to the first answer", ours)
        base = tell(f"the bare programs, {name}, to the first answer", theirs)
        print(f"ratio to the bare programs, {name}: {mine / base:.2f}")


def test_a_database_recycled_and_a_copy(server: PostgresServer) -> None:
    def cycle() -> tuple[float, float]:
        began = time.perf_counter()
        database = server.new_database(TABLES)
        ready = time.perf_counter()
        database.apply(WRITE)
        used = time.perf_counter()
        database.close()
        return ready - began, time.perf_counter() - used

    cycle()
    pairs = [cycle() for _ in range(200)]
    tell("a recycled database: handed out, reset and compared", [sum(pair) for pair in pairs])

    def changed() -> float:
        began = time.perf_counter()
        database = server.new_database(TABLES)
        seconds = time.perf_counter() - began
        database.apply("ALTER TABLE t1 ADD COLUMN more text")
        database.close()
        time.sleep(0.1)  # As long as a test that does something.
        return seconds

    changed()
    tell("a database after a test that changed the schema", [changed() for _ in range(15)])
    admin = server._admin.url()
    template = next(name for name in server._templates)

    async def copy() -> list[float]:
        connection = await asyncpg.connect(admin)
        seconds = []
        for number in range(15):
            began = time.perf_counter()
            await connection.execute(f"CREATE DATABASE bare_{number} TEMPLATE {template} STRATEGY FILE_COPY")
            seconds.append(time.perf_counter() - began)
            await connection.execute(f"DROP DATABASE bare_{number}")
        await connection.close()
        return seconds

    tell("the bare copy", asyncio.run(copy()))


WORKER = f"""
import json, sys, time
from pathlib import Path
from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
with postgres.lease(Wanted(engine="postgres", spec="embedded", folder=Path(sys.argv[1]))) as server:
    server.new_database({TABLES!r}).close()
    print("ready", flush=True)
    sys.stdin.readline()
    seconds = []
    for _ in range(250):
        began = time.perf_counter()
        database = server.new_database({TABLES!r})
        ready = time.perf_counter()
        database.apply({WRITE!r})
        used = time.perf_counter()
        database.close()
        seconds.append(ready - began + time.perf_counter() - used)
    print(json.dumps(seconds), flush=True)
"""


@pytest.mark.parametrize("workers", [1, 4])
def test_a_recycled_database_back_to_back_in_workers_at_once(folder: Path, workers: int) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTEST_XDIST_TESTRUNUID": f"{workers}", "PYTEST_XDIST_WORKER": f"gw{number}"},
        )
        for number in range(workers)
    ]
    for worker in started:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for worker in started:
        assert worker.stdin is not None
        print(file=worker.stdin, flush=True)
    each = [json.loads(worker.communicate()[0]) for worker in started]
    rate = sum(map(len, each)) / (time.perf_counter() - began)
    tell(
        f"a recycled database, back to back in {workers} workers, {rate:.0f} a second",
        [one for some in each for one in some],
    )
    assert {worker.returncode for worker in started} == {0}


def test_a_thousand_tests_in_one_worker_stay_within_the_bound() -> None:
    began = time.perf_counter()
    # A server of its own: the schemas of other tests have databases as well.
    with postgres.lease(Wanted(engine="postgres", spec="embedded", run_id="a thousand tests")) as alone:
        seen = bounds.run_tests(alone, 1000)
    print(f"\n1000 tests of 20 rows in {time.perf_counter() - began:.1f} s; at the most: {seen}")
    bounds.hold_to_the_bound(seen)


def test_a_pool_with_metrics_and_one_without(server: PostgresServer) -> None:
    async def rate(pool: asyncpg.Pool) -> float:
        began = time.perf_counter()
        for _ in range(2000):
            async with pool.acquire() as connection:
                await connection.execute("SELECT 1")
        return (time.perf_counter() - began) / 2000

    async def story() -> tuple[list[float], list[float]]:
        ours, plain = [], []
        async with (
            database.pool(min_size=1, max_size=1) as metered,
            asyncpg.create_pool(database.dsn, min_size=1, max_size=1) as bare,
        ):
            for _ in range(7):
                ours.append(await rate(metered))
                plain.append(await rate(bare))
        return ours, plain

    with server.new_database() as database:
        ours, plain = asyncio.run(story())
    print(
        f"\nacquire, SELECT 1, release: with metrics {min(ours) * 1e6:.0f} us, without {min(plain) * 1e6:.0f} us"
    )
    assert min(ours) > 0


PHASES = """
def pytest_runtest_logreport(report):
    if report.when != "call":
        print("PHASE", report.nodeid[report.nodeid.index("["):], report.duration)
"""


def test_beside_pytest_postgresql_on_the_same_server(server: PostgresServer, folder: Path) -> None:
    pytest.importorskip(
        "pytest_postgresql", reason="pip install pytest-postgresql psycopg for the comparison"
    )
    place = server._admin
    suites = {
        "pytest-postgresql": (
            f"""
            from pathlib import Path
            import psycopg, pytest
            from pytest_postgresql import factories
            def load(**kw):
                with psycopg.connect(**kw) as c: c.execute({TABLES!r})
            proc = factories.postgresql_noproc(
                host={place.host!r}, port={place.port}, user={place.user!r}, password={place.password!r}, load=[load]
            )
            postgresql = factories.postgresql("proc")
            @pytest.mark.parametrize("n", range(60))
            def test_it(postgresql, n):
                postgresql.execute({WRITE!r}); postgresql.commit()
            """,
            ["-p", "pytest_postgresql.plugin"],
        ),
        "pytest-ssot-isolation": (
            f"""
            import psycopg, pytest
            from pytest_ssot_isolation.provisioning import postgres
            from pytest_ssot_isolation.provisioning.base import Wanted
            @pytest.fixture(scope="session")
            def server():
                with postgres.lease(Wanted(engine="postgres", spec="embedded")) as server: yield server
            @pytest.fixture
            def database(server):
                with server.new_database({TABLES!r}) as database: yield database
            @pytest.mark.parametrize("n", range(60))
            def test_it(database, n):
                with psycopg.connect(database.dsn) as c: c.execute({WRITE!r})
            """,
            [],
        ),
    }
    figures = {}
    for name, (suite, options) in suites.items():
        path = folder / name / "test_it.py"
        path.parent.mkdir()
        path.write_text(textwrap.dedent(suite))
        path.with_name("conftest.py").write_text(PHASES)
        common = ["-q", "-s", "-W", "ignore", "-p", "no:cacheprovider", "--rootdir", str(path.parent)]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *common, str(path)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            cwd=path.parent,
            check=False,
        )
        assert "60 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]
        spent: dict[str, float] = {}
        for test, seconds in re.findall(r"PHASE (\[\d+\]) ([\d.e-]+)", done.stdout):
            spent[test] = spent.get(test, 0.0) + float(seconds)
        figures[name] = statistics.median(spent[f"[{number}]"] for number in range(5, 60))
        print(f"\n{name}: set-up and teardown of a test, median {figures[name] * 1e3:.1f} ms")
    ratio = figures["pytest-postgresql"] / figures["pytest-ssot-isolation"]
    print(f"times faster than pytest-postgresql: {ratio:.1f}")
