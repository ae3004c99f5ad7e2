"""Which way to a server is gone: the order, what is told of the ways passed over, and the breaker."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_ssot_isolation.errors import Attempt, NoServer, ServerFailed, ServerGivenUp
from pytest_ssot_isolation.provisioning import breaker, processes
from pytest_ssot_isolation.provisioning.base import Wanted, obtain

DSN = "postgresql://app:planted-secret@db.invalid/app_test"


@dataclass
class FakeServer:
    way: str
    engine: str = "postgres"
    version: str = "18"

    def close(self) -> None: ...


@dataclass
class FakeProvider:
    way: str
    reason: str | None = None
    failure: str | None = None
    starts: int = field(default=0)

    def why_not(self, wanted: Wanted) -> str | None:
        if self.way == "dsn" and wanted.dsn is None:
            return "no DSN was given"
        return self.reason

    def start(self, wanted: Wanted) -> FakeServer:
        self.starts += 1
        if self.failure:
            raise ServerFailed(self.failure)
        return FakeServer(self.way)


def ways(**trouble: str) -> tuple[FakeProvider, ...]:
    """The three ways; ``container=`` is why that one cannot be gone, ``container_fails=`` how its start ends."""
    return tuple(
        FakeProvider(way, trouble.get(way), trouble.get(f"{way}_fails"))
        for way in ("embedded", "container", "dsn")
    )


def wanted(spec: str, run_id: str) -> Wanted:
    return Wanted(engine="postgres", spec=spec, run_id=run_id)


@pytest.fixture
def run_id(request: pytest.FixtureRequest) -> str:
    return str(request.node.nodeid)


@pytest.mark.parametrize("way", ["container", "embedded"])
def test_a_way_asked_for_by_name_is_the_only_one_tried(way: str, run_id: str) -> None:
    server, passed_over = obtain(wanted(way, run_id), ways())

    assert (server.way, passed_over) == (way, ())


def test_a_given_dsn_is_the_only_way_tried(run_id: str) -> None:
    server, passed_over = obtain(wanted(DSN, run_id), ways())

    assert (server.way, passed_over) == ("dsn", ())


def test_auto_takes_a_container_where_docker_answers(run_id: str) -> None:
    server, passed_over = obtain(wanted("auto", run_id), ways())

    assert server.way == "container"
    assert passed_over == (Attempt("dsn", "no DSN was given"),)


def test_auto_falls_back_to_embedded_and_tells_why(run_id: str) -> None:
    server, passed_over = obtain(wanted("auto", run_id), ways(container="Docker is not here"))

    assert server.way == "embedded"
    assert passed_over == (Attempt("dsn", "no DSN was given"), Attempt("container", "Docker is not here"))


def test_auto_goes_on_after_a_container_that_failed(run_id: str) -> None:
    server, passed_over = obtain(wanted("auto", run_id), ways(container_fails="the image is missing"))

    assert server.way == "embedded"
    assert passed_over[-1] == Attempt("container", "the image is missing")


def test_no_way_at_all_lists_each_with_its_reason_and_the_remedies(run_id: str) -> None:
    with pytest.raises(NoServer) as caught:
        obtain(wanted("auto", run_id), ways(container="Docker is not here", embedded="not installed"))

    assert str(caught.value) == (
        "No postgres server could be reached or started.\n"
        "Tried, in order:\n"
        "  - dsn: no DSN was given\n"
        "  - container: Docker is not here\n"
        "  - embedded: not installed\n"
        "To fix this, do one of:\n"
        "  - use a running server: --ssot-postgres=DSN\n"
        "  - install an embedded one: pip install 'pytest-ssot-isolation[embedded]'\n"
        "  - start Docker, for a container"
    )


def test_the_failure_of_the_one_way_asked_for_is_told_as_it_is(run_id: str) -> None:
    with pytest.raises(ServerFailed, match=r"^out of memory$"):
        obtain(wanted("embedded", run_id), ways(embedded_fails="out of memory"))


def test_after_three_failures_a_server_is_not_tried_again_and_the_first_cause_is_told(run_id: str) -> None:
    providers = ways(embedded_fails="cause 1")
    for number in (1, 2, 3):
        providers[0].failure = f"cause {number}"
        with pytest.raises(ServerFailed):
            obtain(wanted("embedded", run_id), providers)

    with pytest.raises(ServerGivenUp, match=r"failed 3 times in this run.*\nThe first cause was:\ncause 1"):
        obtain(wanted("embedded", run_id), providers)
    assert providers[0].starts == 3


def test_failures_that_are_not_in_a_row_do_not_add_up(run_id: str) -> None:
    providers = ways()
    for failure in ("a", "b", None, "c", "d"):
        providers[0].failure = failure
        if failure is None:
            obtain(wanted("embedded", run_id), providers)
        else:
            with pytest.raises(ServerFailed):
                obtain(wanted("embedded", run_id), providers)

    providers[0].failure = None
    server, _ = obtain(wanted("embedded", run_id), providers)
    assert server.way == "embedded"


def test_another_server_and_another_run_have_breakers_of_their_own(run_id: str) -> None:
    for _ in range(3):
        with pytest.raises(ServerFailed):
            obtain(wanted("embedded", run_id), ways(embedded_fails="broken"))

    assert obtain(wanted("container", run_id), ways())[0].way == "container"
    assert obtain(wanted("embedded", f"{run_id} again"), ways())[0].way == "embedded"


WORKER = """
import sys
from pytest_ssot_isolation.errors import ServerFailed, ServerGivenUp
from pytest_ssot_isolation.provisioning.breaker import Breaker
breaker = Breaker.of("one run", "postgres")
for word in sys.argv[1:]:
    if word == "well":
        breaker.succeeded()
    elif word != "ask":
        breaker.failed(ServerFailed(word))
try:
    breaker.check("postgres")
except ServerGivenUp as error:
    print(error)
else:
    print("open to all")
"""


@pytest.fixture
def worker(tmp_path: Path) -> Callable[..., str]:
    """A process as xdist starts it: fails as often as it is told causes, and says whether it would go on."""

    def work(*words: str, **environment: str) -> str:
        own = {"TMPDIR": str(tmp_path), "PYTEST_XDIST_WORKER": "gw0", **environment}
        return subprocess.run(
            [sys.executable, "-c", WORKER, *words],
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return work


def test_the_workers_of_one_run_count_a_servers_failures_together(
    worker: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker("the disk is full", PYTEST_XDIST_WORKER="gw0") == "open to all\n"
    assert worker("gone", PYTEST_XDIST_WORKER="gw1") == "open to all\n"
    assert "failed 3 times in this run" in worker("gone", PYTEST_XDIST_WORKER="gw2")
    assert worker("ask", PYTEST_XDIST_WORKER="gw3").endswith("The first cause was:\nthe disk is full\n")
    assert [file.stat().st_mode & 0o077 for file in tmp_path.rglob("*.jsonl")] == [0]

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    breaker.forget()
    assert list(tmp_path.iterdir()) == []
    assert worker("ask") == "open to all\n"


def test_one_workers_success_makes_the_others_begin_to_count_anew(worker: Callable[..., str]) -> None:
    worker("a", "b")
    worker("well")

    assert worker("c", "d") == "open to all\n"


def test_what_a_killed_runs_workers_shared_is_swept_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = breaker._folder()
    folder.mkdir()
    mine, foreign = os.getpid(), os.getppid()
    for name in (f"{mine}-1-of a number given again", f"{foreign}-{processes.born(foreign)}-of the living"):
        (folder / f"{name}.jsonl").write_text('"a cause"\n')
    breaker.forget(pid=0)

    assert [file.name.rpartition("-")[2] for file in folder.iterdir()] == ["of the living.jsonl"]


def test_what_is_wanted_does_not_show_the_password_of_its_dsn(run_id: str) -> None:
    assert "planted-secret" not in repr(wanted(DSN, run_id))


def test_the_workers_of_one_run_share_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "one-run")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")

    assert (Wanted(engine="postgres").run_id, Wanted(engine="postgres").worker) == ("one-run", "gw1")


def test_without_xdist_a_process_is_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_TESTRUNUID", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    assert Wanted(engine="postgres").run_id == Wanted(engine="clickhouse").run_id
    assert Wanted(engine="postgres").worker == "main"
