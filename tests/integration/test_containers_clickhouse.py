"""A ClickHouse container is shared, watched and removed, and each of its faults is told in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_ssot_isolation.errors import DatabaseUnusable, NoServer, ServerFailed
from pytest_ssot_isolation.provisioning import clickhouse, docker_engine, processes
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

pytestmark = pytest.mark.container

IMAGE = os.environ.get("SSOT_CLICKHOUSE_IMAGE") or "ssot-isolation/clickhouse-standin:26.9"
EXITS_AT_ONCE = "ssot-isolation/exits-at-once:1"
SAYS_NOTHING = "ssot-isolation/says-nothing:1"
IN_SECONDS = 20  # Seconds; what testcontainers itself would need is two minutes.


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    if reason := docker_engine.why_not():
        pytest.skip(reason)
    for image in (IMAGE, EXITS_AT_ONCE, SAYS_NOTHING):
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
        engine="clickhouse",
        spec="container",
        image=image,
        run_id=run_id,
        timeouts=DatabaseTimeoutConfig.for_environment("container", **timeouts),
    )


def test_a_run_has_one_container_and_the_last_one_out_removes_it(docker: Any, run_id: str) -> None:
    first = clickhouse.lease(wanted(run_id))
    with clickhouse.lease(wanted(run_id)) as second, second.new_database() as database:
        assert len(containers_of(docker, run_id)) == 1
        first.close()
        assert database.connect().command("SELECT 1") == 1
        (container,) = containers_of(docker, run_id)
        assert container.status == "running"

    assert wait_until(lambda: containers_of(docker, run_id) == [])


def test_two_runs_have_two_containers_and_each_removes_its_own(docker: Any, run_id: str) -> None:
    other = f"{run_id}-other"
    with clickhouse.lease(wanted(run_id)) as mine:
        with clickhouse.lease(wanted(other)):
            assert len(containers_of(docker, run_id)) == len(containers_of(docker, other)) == 1
        assert wait_until(lambda: containers_of(docker, other) == [])
        with mine.new_database() as database:
            assert database.connect().command("SELECT 1") == 1
    assert wait_until(lambda: containers_of(docker, run_id) == [])


def test_the_port_is_published_on_loopback_only(docker: Any, run_id: str) -> None:
    if os.environ.get("TESTCONTAINERS_HOST_OVERRIDE") != "127.0.0.1":
        pytest.skip("the engine is not reached through loopback here (TESTCONTAINERS_HOST_OVERRIDE)")
    with clickhouse.lease(wanted(run_id)):
        (container,) = containers_of(docker, run_id)
        container.reload()
        published = [each for ports in container.ports.values() for each in ports or ()]

        assert [each["HostIp"] for each in published] == ["127.0.0.1"]


def test_the_header_is_told_whether_ryuk_watches(run_id: str) -> None:
    with clickhouse.lease(wanted(run_id)) as server:
        (note,) = server.notes

    ryuk = "testcontainers/ryuk"
    assert note == "Ryuk on" or (note.startswith("Ryuk off") and (ryuk in note or "DISABLED" in note))


def test_a_missing_image_is_told_in_seconds_with_the_remedy(run_id: str) -> None:
    began = time.monotonic()
    with pytest.raises(
        ServerFailed, match=r"The image localhost:9/absent:1 is not on the Docker engine"
    ) as told:
        clickhouse.lease(wanted(run_id, "localhost:9/absent:1"))

    assert "docker pull localhost:9/absent:1" in str(told.value)
    assert "--ssot-clickhouse-image=IMAGE" in str(told.value)
    assert time.monotonic() - began < IN_SECONDS


def test_a_container_that_exits_is_told_in_seconds_with_its_logs(docker: Any, run_id: str) -> None:
    began = time.monotonic()
    with pytest.raises(ServerFailed, match=r"exits-at-once:1 exited with status 3\.") as told:
        clickhouse.lease(wanted(run_id, EXITS_AT_ONCE))

    assert "It said:\n  the setting listen_port is not a number" in str(told.value)
    assert time.monotonic() - began < IN_SECONDS
    assert wait_until(lambda: containers_of(docker, run_id) == [])


def test_a_container_that_never_answers_is_told_after_the_time_out(docker: Any, run_id: str) -> None:
    with pytest.raises(ServerFailed, match=r"did not answer on port 8123 within 1.5 s") as told:
        clickhouse.lease(wanted(run_id, SAYS_NOTHING, start=1.5))

    assert "It said:\n  loading" in str(told.value)
    assert "the time-out named 'start'" in str(told.value)
    assert wait_until(lambda: containers_of(docker, run_id) == [])


def test_in_auto_a_failing_container_is_passed_over_and_the_reason_kept(run_id: str) -> None:
    pytest.importorskip("chdb")
    with clickhouse.lease(Wanted(engine="clickhouse", image=EXITS_AT_ONCE, run_id=run_id)) as server:
        assert server.way == "embedded"
        assert [attempt.way for attempt in server.passed] == ["dsn", "container"]
        assert "exited with status 3" in server.passed[1].reason


def test_a_container_killed_in_the_middle_of_a_test_is_told_without_a_hang(docker: Any, run_id: str) -> None:
    server = clickhouse.lease(wanted(run_id))
    database = server.new_database("CREATE TABLE t (x Int8) ENGINE = Memory")
    (container,) = containers_of(docker, run_id)
    container.kill()

    began = time.monotonic()
    with pytest.raises(DatabaseUnusable, match=r"ClickHouse at ssot@"):
        database.reset()
    with pytest.raises(DatabaseUnusable, match=r"ClickHouse at ssot@"):
        database.close()
    server.close()

    assert time.monotonic() - began < IN_SECONDS
    assert wait_until(lambda: containers_of(docker, run_id) == [])


def test_after_kill_9_of_the_run_the_container_is_removed(docker: Any, run_id: str) -> None:
    script = f"""
        import time
        from pytest_ssot_isolation.provisioning import clickhouse
        from pytest_ssot_isolation.provisioning.base import Wanted
        clickhouse.lease(Wanted(engine="clickhouse", spec="container", image={IMAGE!r}, run_id={run_id!r}))
        print("ready", flush=True)
        time.sleep(600)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            assert len(containers_of(docker, run_id)) == 1
        finally:
            process.kill()

    assert wait_until(lambda: containers_of(docker, run_id) == [])


def test_the_next_run_removes_what_a_killed_supervisor_left_and_nothing_else(
    docker: Any, run_id: str
) -> None:
    machine = {"ssot-isolation.machine": docker_engine._machine()}
    me = f"{os.getpid()} {processes.born(os.getpid())}"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()

    def leave(owner: str, **labels: str) -> Any:
        mine = {**machine, "ssot-isolation.run": run_id, "ssot-isolation.supervisor": owner}
        return docker.containers.run(
            SAYS_NOTHING,
            detach=True,
            labels={**mine, **{f"ssot-isolation.{k}": v for k, v in labels.items()}},
        )

    of_the_dead = leave(f"{dead.pid} 1")
    of_a_number_given_again = leave(f"{os.getpid()} 1")
    of_the_living = leave(me)
    of_another_machine = leave(f"{dead.pid} 1", machine="elsewhere pid:[1]")
    try:
        removed = docker_engine.sweep()

        assert {of_the_dead.id, of_a_number_given_again.id} <= set(removed)
        left = {container.id for container in containers_of(docker, run_id)}
        assert left == {of_the_living.id, of_another_machine.id}
    finally:
        for container in containers_of(docker, run_id):
            container.remove(force=True)


def test_the_password_is_in_no_log_of_the_container_and_no_file_that_others_may_read(
    docker: Any, run_id: str, tmp_path: Path
) -> None:
    from pytest_ssot_isolation.provisioning.clickhouse.address import Address

    asked = Wanted(engine="clickhouse", spec="container", image=IMAGE, run_id=run_id, folder=tmp_path)
    with clickhouse.lease(asked) as server, server.new_database() as database:
        password = Address.parse(database.dsn).password
        (container,) = containers_of(docker, run_id)
        files = [
            file for file in tmp_path.rglob("*") if file.is_file() and password in file.read_text("latin1")
        ]

        assert password
        assert password not in container.logs().decode()
        assert password not in repr(asked) + repr(server) + repr(database)
        assert [file.stat().st_mode & 0o077 for file in files] == [0] * len(files)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")
def test_a_socket_without_permission_is_told_with_the_remedy() -> None:
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not host.startswith("unix://"):
        pytest.skip("the engine has no socket here")
    os.seteuid(65534)
    try:
        reason = docker_engine.why_not()
    finally:
        os.seteuid(0)

    assert reason is not None
    assert reason.startswith("the Docker socket may not be opened by this user: join the group that owns it")


def test_without_an_engine_the_way_is_passed_over_in_one_line(
    monkeypatch: pytest.MonkeyPatch, run_id: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")

    with pytest.raises(NoServer, match=r"container: Docker does not answer: .*No such file"):
        clickhouse.lease(Wanted(engine="clickhouse", spec="container", run_id=run_id))
