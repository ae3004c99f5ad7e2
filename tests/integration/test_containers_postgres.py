"""A PostgreSQL container is shared, watched and removed, and each of its faults is told in seconds."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pytest_ssot_isolation.errors import ServerFailed
from pytest_ssot_isolation.provisioning import docker_engine, postgres
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.postgres import container
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

pytestmark = pytest.mark.container

IMAGE = os.environ.get("SSOT_POSTGRES_IMAGE") or "ssot-isolation/postgres:18"
EXITS_AT_ONCE = "ssot-isolation/exits-at-once:1"
SAYS_NOTHING = "ssot-isolation/says-nothing:1"
RYUK = (
    os.environ.get("SSOT_RYUK_IMAGE") or "ssot-isolation/ryuk-standin:1"
)  # Ryuk itself comes from a registry only.
IN_SECONDS = 20  # Seconds; what testcontainers itself would need is two minutes.


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    if reason := docker_engine.why_not():
        pytest.skip(reason)
    for image in (IMAGE, RYUK, EXITS_AT_ONCE, SAYS_NOTHING):
        if image.startswith("ssot-isolation/") and not docker_engine.has_image(image):
            pytest.skip(f"the image {image} is not here: python .ci/build_images.py")


@pytest.fixture
def run_id(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name}-{os.getpid()}"


@pytest.fixture
def docker() -> Iterator[Any]:
    import docker

    client = docker.from_env()
    yield client
    client.close()


def containers_of(docker: Any, run_id: str) -> list[Any]:
    found: list[Any] = docker.containers.list(
        all=True, filters={"label": f"ssot-isolation.run={run_id}"}, ignore_removed=True
    )
    return found


def wait_until(claim: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.05)
    return claim()


def wanted(run_id: str, image: str = IMAGE, **timeouts: float) -> Wanted:
    return Wanted(
        engine="postgres",
        spec="container",
        image=image,
        run_id=run_id,
        timeouts=DatabaseTimeoutConfig.for_environment("container", **timeouts),
    )


def test_a_test_gets_the_same_as_from_the_other_ways(run_id: str, docker: Any) -> None:
    class Alice:
        user_id = "alice"
        tenant_id = "A"

    async def write(dsn: str) -> object:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("INSERT INTO notes (tenant) VALUES (current_setting('app.tenant_id'))")
            return await connection.fetchval("SELECT count(*) FROM notes")
        finally:
            await connection.close()

    schema = """
        CREATE TABLE notes (id serial, tenant text);
        ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON notes USING (tenant = current_setting('app.tenant_id', true));
    """
    with postgres.lease(wanted(run_id)) as server:
        assert (server.way, len(containers_of(docker, run_id))) == ("container", 1)
        assert server.notes
        for _ in range(2):
            with server.new_database(schema) as database:
                assert asyncio.run(write(database.dsn_for(Alice))) == 1
    assert wait_until(lambda: not containers_of(docker, run_id))


CLIENT = """
import sys
from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
with postgres.lease(Wanted(engine="postgres", spec="container", image=sys.argv[1], run_id=sys.argv[2])) as server:
    server.new_database()
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_workers_share_one_container_which_goes_when_all_were_killed(run_id: str, docker: Any) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, IMAGE, run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        assert len(containers_of(docker, run_id)) == 1
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert wait_until(lambda: not containers_of(docker, run_id))


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (EXITS_AT_ONCE, r"(?s)exited with status 3.*the setting listen_port is not a number"),
        (SAYS_NOTHING, r"(?s)did not answer on port 5432 within 3 s.*loading.*the time-out named 'start'"),
        ("ssot-isolation/no-such-image:1", r"(?s)could not be pulled.*--ssot-postgres-image=IMAGE"),
    ],
    ids=["exits", "silent", "missing"],
)
def test_a_container_that_cannot_be_used_is_told_in_seconds_and_removed(
    run_id: str, docker: Any, image: str, text: str
) -> None:
    began = time.monotonic()
    with pytest.raises(ServerFailed, match=text):
        postgres.lease(wanted(run_id, image, start=3.0, pull=10.0))

    assert time.monotonic() - began < IN_SECONDS
    assert wait_until(lambda: not containers_of(docker, run_id))


def test_a_container_removed_by_somebody_is_told_with_what_became_of_it(run_id: str, docker: Any) -> None:
    with postgres.lease(wanted(run_id)) as server:
        (container,) = containers_of(docker, run_id)
        container.remove(force=True)
        with pytest.raises(ServerFailed, match=r"PostgreSQL .* \(container\) at .* is gone"):
            server.new_database()


def test_an_image_that_is_too_old_is_told_with_the_remedy_and_removed(
    run_id: str, docker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        container, "OLDEST", 99
    )  # None of an old version can be made from what is installed here.
    with pytest.raises(
        ServerFailed, match=r"(?s)holds PostgreSQL 1\d.*too old.*99 or later: --ssot-postgres-image"
    ):
        postgres.lease(wanted(run_id))

    assert wait_until(lambda: not containers_of(docker, run_id))


def test_a_run_of_xdist_has_one_container_for_all_its_workers(tmp_path: Path, docker: Any) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
            import os, pathlib, pytest
            @pytest.mark.parametrize("n", range(8))
            def test_it(postgres, n):
                seen = pathlib.Path("seen") / f"{os.environ['PYTEST_XDIST_WORKER']}-{n}"
                seen.write_text(f"{postgres.port} {postgres.server._wanted.run_id} {postgres.name}")
        """)
    )
    seen = tmp_path / "seen"
    seen.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2"),
            *("--ssot-postgres=container", f"--ssot-postgres-image={IMAGE}"),
        ],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = [file.read_text().split() for file in seen.iterdir()]

    assert "8 passed" in done.stdout, done.stdout + done.stderr
    assert "container (passed over" not in done.stdout
    assert len({file.name.partition("-")[0] for file in seen.iterdir()}) == 2
    assert len({(port, run) for port, run, _ in told}) == 1
    assert len({name.rpartition("_")[0] for _, _, name in told}) == 2, "each worker has databases of its own"
    assert wait_until(lambda: not containers_of(docker, told[0][1]))


CLIENT_AND_NOTE = """
import json, sys, time
from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
server = postgres.lease(Wanted(engine="postgres", spec="container", image=sys.argv[1], run_id=sys.argv[2]))
print(json.dumps(server.notes), flush=True)
sys.stdin.read()
server.close()
"""


def ryuks(docker: Any) -> set[str]:
    return {
        container.id
        for container in docker.containers.list(all=True, ignore_removed=True, filters={"ancestor": RYUK})
    }


def begin(run_id: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT_AND_NOTE, IMAGE, run_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "RYUK_CONTAINER_IMAGE": RYUK, "RYUK_RECONNECTION_TIMEOUT": "1s", **environment},
    )
    assert process.stdout is not None
    return process, process.stdout.readline()


def test_with_ryuk_on_nothing_is_left_though_supervisor_and_workers_were_killed(
    run_id: str, docker: Any
) -> None:
    before = ryuks(docker)
    process, note = begin(run_id)
    try:
        assert note == '["Ryuk on"]\n'
        (container,) = containers_of(docker, run_id)
        assert len(ryuks(docker) - before) == 1
        supervisor = int(container.labels["ssot-isolation.supervisor"].split()[0])
    finally:
        process.kill()
        process.communicate()
    os.kill(supervisor, signal.SIGKILL)

    assert wait_until(lambda: not containers_of(docker, run_id)), "no next run was needed"
    assert wait_until(lambda: ryuks(docker) <= before)


def test_with_ryuk_on_a_run_that_ends_takes_its_ryuk_along(run_id: str, docker: Any) -> None:
    before = ryuks(docker)
    process, note = begin(run_id)
    process.communicate()

    assert note == '["Ryuk on"]\n'
    assert wait_until(lambda: not containers_of(docker, run_id))
    assert wait_until(lambda: ryuks(docker) <= before)


@pytest.mark.parametrize(
    ("environment", "note"),
    [
        ({"RYUK_CONTAINER_IMAGE": EXITS_AT_ONCE}, f"Ryuk off ({EXITS_AT_ONCE} did not start: "),
        (
            {"RYUK_CONTAINER_IMAGE": "localhost:9/ryuk:1"},
            "Ryuk off (localhost:9/ryuk:1 is not to be had)",
        ),
        ({"TESTCONTAINERS_RYUK_DISABLED": "true"}, "Ryuk off (TESTCONTAINERS_RYUK_DISABLED)"),
    ],
    ids=["exits", "missing", "disabled"],
)
def test_without_ryuk_the_next_run_removes_what_a_killed_supervisor_left(
    run_id: str, docker: Any, environment: dict[str, str], note: str
) -> None:
    process, said = begin(run_id, **environment)
    try:
        assert said.startswith(f'["{note}')
        (container,) = containers_of(docker, run_id)
        supervisor = int(container.labels["ssot-isolation.supervisor"].split()[0])
    finally:
        process.kill()
        process.communicate()
    os.kill(supervisor, signal.SIGKILL)
    next_one, said = begin(f"{run_id}-next", **environment)
    try:
        assert said.startswith(f'["{note}')
        assert not containers_of(docker, run_id)
    finally:
        next_one.communicate()
    assert wait_until(lambda: not containers_of(docker, f"{run_id}-next"))
