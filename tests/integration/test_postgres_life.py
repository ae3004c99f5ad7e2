"""How long an embedded server lives: as long as one process of its run, however that ends, and not longer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_ssot_isolation.provisioning.home import STATE

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="looks at processes through /proc"
)

CLIENT = """
import json, sys
from pathlib import Path
from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
server = postgres.lease(Wanted(engine="postgres", spec="embedded", folder=Path(sys.argv[1])))
database = server.new_database("CREATE TABLE t (id int)")
print(json.dumps({"port": database.port, "name": database.name}), flush=True)
for line in sys.stdin:
    database.apply("SELECT 1")
    print("still there", flush=True)
"""


@dataclass
class Client:
    """One process of a run that holds a server and a database."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    def ask_again(self) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        return self.process.stdout.readline()

    def kill(self, how: int = signal.SIGKILL) -> None:
        self.process.send_signal(how)
        self.process.communicate()


Begin = Callable[..., list[Client]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter: as root, the server runs as another."""
    made = Path(tempfile.mkdtemp(prefix="ssot-life-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def begin(folder: Path) -> Iterator[Begin]:
    started: list[subprocess.Popen[str]] = []

    def begin(run: str, workers: int = 1) -> list[Client]:
        own = [
            subprocess.Popen(
                [sys.executable, "-c", CLIENT, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTEST_XDIST_TESTRUNUID": run, "PYTEST_XDIST_WORKER": f"gw{number}"},
            )
            for number in range(workers)
        ]
        started.extend(own)
        return [Client(process, json.loads(process.stdout.readline())) for process in own if process.stdout]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def processes(folder: Path, word: str = "") -> list[int]:
    """The processes, but zombies, that have the folder in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and word in line and "import json, sys" not in line:
            found.append(int(path.parent.name))
    return found


def servers(folder: Path) -> list[int]:
    """The servers: a child that one has just forked has its command line still, and is none."""
    found = processes(folder, "/postgres ")
    parents = {pid: int(stat_of(pid)[1]) for pid in found if stat_of(pid)}
    return [pid for pid, parent in parents.items() if parent not in found]


def stat_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def runs(folder: Path) -> list[Path]:
    return [run for root in folder.iterdir() for run in root.iterdir()]


def gone_within(seconds: float, folder: Path) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not processes(folder) and not runs(folder):
            return True
        time.sleep(0.05)
    return False


def test_four_workers_share_one_server_and_each_has_databases_of_its_own(folder: Path, begin: Begin) -> None:
    clients = begin("one", workers=4)

    assert len({client.said["port"] for client in clients}) == 1
    assert len({client.said["name"] for client in clients}) == 4
    assert len(servers(folder)) == 1


def test_two_runs_at_a_time_have_a_server_each(folder: Path, begin: Begin) -> None:
    (first,), (second,) = begin("one"), begin("two")

    assert first.said["port"] != second.said["port"]
    first.kill()
    time.sleep(0.6)
    assert second.ask_again() == "still there\n"


def test_the_server_stays_while_one_of_its_workers_is_left(folder: Path, begin: Begin) -> None:
    first, second = begin("one", workers=2)
    first.kill()
    time.sleep(0.6)

    assert second.ask_again() == "still there\n"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_once_all_workers_are_gone_however_they_went(
    folder: Path, begin: Begin, how: int
) -> None:
    for client in begin("one", workers=2):
        client.kill(how)

    assert gone_within(10, folder), (processes(folder), runs(folder))


def test_a_killed_supervisor_takes_the_server_along_and_the_next_run_sweeps_its_folder(
    folder: Path, begin: Begin
) -> None:
    (client,) = begin("one")
    (supervisor,) = processes(folder, "provisioning.supervisor")
    client.kill()
    os.kill(supervisor, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes(folder) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert processes(folder) == [], "the kernel ends the server with its supervisor"
    assert len(runs(folder)) == 1
    (another,) = begin("two")
    assert len(runs(folder)) == 1, "the dead run's folder should be gone"
    another.kill()
    assert gone_within(10, folder)


def test_a_run_that_was_given_up_leaves_no_shared_memory(folder: Path, begin: Begin) -> None:
    def segments() -> set[str]:
        listed = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        return {line.split()[1] for line in listed} | {
            path.name for path in Path("/dev/shm").glob("PostgreSQL.*")
        }

    before = segments()
    (client,) = begin("one")
    client.kill()

    assert gone_within(10, folder)
    assert segments() <= before


def test_a_server_that_died_is_told_at_once_and_given_up_after_three_times(
    folder: Path, begin: Begin
) -> None:
    script = """
import os, re, signal, sys, time
from pathlib import Path
from pytest_ssot_isolation.errors import ServerError
from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
server = postgres.lease(Wanted(engine="postgres", spec="embedded", folder=Path(sys.argv[1])))
database = server.new_database()
pidfile = next(Path(sys.argv[1]).rglob("postmaster.pid"))
os.kill(int(pidfile.read_text().split()[0]), signal.SIGKILL)
began = time.monotonic()
for step in (lambda: database.apply("SELECT 1"), *[server.new_database] * 4):
    try:
        step()
    except ServerError as error:
        print(type(error).__name__, error, sep=": ")
print("seconds", round(time.monotonic() - began, 1))
try:
    database.close()
except ServerError as error:
    print("close", type(error).__name__)
server.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stderr == ""
    assert "ServerFailed: PostgreSQL" in done.stdout
    assert "is gone: it was ended by SIGKILL" in done.stdout
    assert "ServerGivenUp: The postgres server failed 3 times in this run" in done.stdout
    seconds = float(done.stdout.partition("seconds ")[2].split()[0])
    assert seconds < 20
    assert gone_within(10, folder)


def test_the_folders_let_nobody_else_read_the_passwords(folder: Path, begin: Begin) -> None:
    begin("one")

    (state,) = folder.rglob(STATE)
    assert state.stat().st_mode & 0o077 == 0
    data = state.parent / "data"
    assert data.stat().st_mode & 0o007 == 0
