"""chDB in the process changes nothing about how the process crashes, is interrupted, forks or is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip(
    "chdb", reason="chdb-core is not installed: pip install 'pytest-ssot-isolation[embedded]'"
)

OPEN = """
import faulthandler, os, signal, subprocess, sys, time
from pathlib import Path
from pytest_ssot_isolation.errors import IsolationError
from pytest_ssot_isolation.provisioning import clickhouse
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.clickhouse import embedded

def lease():
    return clickhouse.lease(Wanted(engine="clickhouse", spec="embedded", folder=Path(sys.argv[1])))
"""
PATIENCE = 60  # Seconds until a process that hangs is told from one on a busy machine.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a Python process on a script; whatever is left of it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OPEN + textwrap.dedent(script), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)


@pytest.fixture
def run(start: Callable[[str], subprocess.Popen[str]]) -> Callable[[str], tuple[int, str, str]]:
    """Run a script to its end and return its status and what it said."""

    def run(script: str) -> tuple[int, str, str]:
        process = start(script)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    return run


Run = Callable[[str], tuple[int, str, str]]
Start = Callable[[str], "subprocess.Popen[str]"]


def folders(parent: Path) -> list[str]:
    return sorted(folder.name for folder in parent.glob("ssot-isolation-chdb-*"))


def wait_until(claim: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not claim() and time.monotonic() < deadline:
        time.sleep(0.02)
    return claim()


def test_a_crash_ends_the_process_with_a_traceback(run: Run) -> None:
    status, _, err = run("""
        faulthandler.enable()
        lease()
        import ctypes
        ctypes.string_at(0)
    """)

    assert status == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in err
    assert "string_at" in err


def test_an_abort_ends_the_process(run: Run) -> None:
    status, _, _ = run("""
        lease()
        os.abort()
    """)

    assert status == -signal.SIGABRT


def test_faulthandler_goes_on_writing_where_it_was_told_to(run: Run, folder: Path) -> None:
    status, _, err = run("""
        faulthandler.enable(file=open(f"{sys.argv[1]}/crash", "w"))
        lease()
        os.kill(os.getpid(), signal.SIGBUS)
    """)

    assert status == -signal.SIGBUS
    assert "Fatal Python error: Bus error" in (folder / "crash").read_text()
    assert "Fatal" not in err


def test_signals_are_handled_and_blocked_as_before_also_after_opening_anew(run: Run) -> None:
    status, out, err = run("""
        def signals():
            # The kernel's own words: what is blocked, ignored and caught, of the signals with names. Those
            # above belong to the C library, which catches two of them once there are threads.
            fields = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
            return {f[0]: int(f[1], 16) % 2**31 for f in fields if f[0] in ("SigBlk:", "SigIgn:", "SigCgt:")}
        before = signals()
        server = lease()
        first = signals()
        server.new_database(protect={"events": "tenant_id"}).close()
        print(before == first, first == signals(), before)
    """)

    assert status == 0, err
    if sys.platform == "linux":
        assert out.startswith("True True"), out


def test_ctrl_c_ends_a_test_run_at_once_and_leaves_no_folder(pytester: pytest.Pytester, folder: Path) -> None:
    pytester.makepyfile(
        f"""
        import time
        from pathlib import Path
        from pytest_ssot_isolation.provisioning import clickhouse
        from pytest_ssot_isolation.provisioning.base import Wanted

        def test_slow():
            wanted = Wanted(engine="clickhouse", spec="embedded", folder=Path({str(folder)!r}))
            with clickhouse.lease(wanted) as server, server.new_database() as database:
                database.connect().query("SELECT 1")
                Path({str(folder)!r}, "ready").touch()
                time.sleep({PATIENCE})
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=pytester.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert wait_until((folder / "ready").exists)
        assert folders(folder)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE / 2)
    finally:
        process.kill()

    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in out
    assert folders(folder) == []


def test_a_forked_child_is_refused_with_the_remedy(run: Run) -> None:
    status, out, err = run("""
        server = lease()
        database = server.new_database()
        if child := os.fork():
            _, ended = os.waitpid(child, 0)
            print(os.waitstatus_to_exitcode(ended), database.connect().command("SELECT 1"))
        else:
            signal.alarm(30)
            for use in (lease, database.connect, server.new_database, lambda: database.dsn, database.close):
                try:
                    use()
                except IsolationError as error:
                    print(f"{use.__name__}: {error}", flush=True)
            os._exit(7)
    """)

    assert status == 0, err
    assert out.count("was loaded before this process was forked") == 5
    assert "run these tests without forking (no --forked" in out
    assert "--ssot-clickhouse=container" in out
    assert out.endswith("7 1\n")


def test_a_fork_before_chdb_is_loaded_has_an_engine_and_a_folder_of_its_own(run: Run) -> None:
    status, out, err = run("""
        if child := os.fork():
            server = lease()
            with server.new_database() as database:
                print(database.connect().command("SELECT 1"))
            os.waitpid(child, 0)
        else:
            signal.alarm(30)
            with lease().new_database() as database:
                print(database.connect().command("SELECT 1"), flush=True)
            os._exit(0)
    """)

    assert (status, out) == (0, "1\n1\n"), err


def test_a_child_that_leaves_chdb_alone_ends_and_takes_no_folder_along(run: Run) -> None:
    status, out, err = run("""
        import multiprocessing
        lease().new_database()
        child = multiprocessing.get_context("fork").Process(target=print, args=("child",))
        child.start()
        child.join(30)
        there = list(Path(sys.argv[1]).glob("ssot-isolation-chdb-*/data"))
        print(child.exitcode, len(there))
    """)

    assert (status, out) == (0, "child\n0 1\n"), err


def test_a_program_started_from_it_gets_sigpipe(run: Run) -> None:
    status, out, err = run("""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPIPE})
        lease()
        line = "exec 2>/dev/null; (while echo x; do :; done; echo survived >&2) | head -n 1"
        print(subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30).stdout)
    """)

    assert (status, out) == (0, "x\n\n"), err


def test_nothing_is_left_and_nothing_is_said_at_the_end(run: Run, folder: Path) -> None:
    status, out, err = run("lease().new_database(protect={'t': 'c'}).connect()")

    assert (status, out, err) == (0, "", "")
    assert folders(folder) == []


def test_after_kill_9_the_folder_goes(start: Start, folder: Path) -> None:
    process = start("lease().new_database(); print('ready', flush=True); time.sleep(600)")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(folders(folder)) == 1

    process.kill()

    assert wait_until(lambda: folders(folder) == [])


def test_with_its_guardian_killed_too_the_folder_goes_with_the_next_run(start: Start, folder: Path) -> None:
    process = start("""
        guardians = []
        spawn = os.posix_spawn
        os.posix_spawn = lambda *args, **options: guardians.append(spawn(*args, **options))
        lease().new_database()
        os.kill(guardians[0], signal.SIGKILL)
        os.waitpid(guardians[0], 0)
        print("ready", flush=True)
        time.sleep(600)
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    (left,) = folders(folder)
    process.kill()
    process.wait()
    assert folders(folder) == [left]

    second = start("lease(); print('ready', flush=True); time.sleep(600)")
    assert second.stdout is not None
    assert second.stdout.readline() == "ready\n"

    assert len(folders(folder)) == 1
    assert left not in folders(folder)


def test_two_runs_at_once_never_touch_each_others_folders(start: Start, run: Run, folder: Path) -> None:
    first = start("""
        database = lease().new_database("CREATE TABLE t (x Int8) ENGINE = MergeTree ORDER BY x")
        print("ready", flush=True)
        time.sleep(600)
    """)
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    mine = folders(folder)

    status, out, err = run("""
        print(len(list(Path(sys.argv[1]).glob("ssot-isolation-chdb-*"))))
        server = lease()
        print(len(list(Path(sys.argv[1]).glob("ssot-isolation-chdb-*"))))
        print(server.new_database().connect().command("SHOW TABLES") or "empty")
    """)

    assert (status, out.split()[:2]) == (0, ["1", "2"]), err
    assert folders(folder) == mine


def test_opening_anew_has_a_bound_and_then_skips_loudly(run: Run) -> None:
    status, out, err = run("""
        import pytest
        embedded.MOST_REOPENINGS = 2
        server = lease()
        for number in range(4):
            try:
                server.new_database(protect={f"t{number}": "c"}).close()
                print(number)
            except pytest.skip.Exception as skip:
                print(skip)
                break
        server.new_database(protect={"t0": "c"}).close()
        print("known ones go on")
    """)

    assert status == 0, err
    assert out.startswith("0\n1\nchDB was opened anew 2 times in this process")
    assert "--ssot-clickhouse=container" in out
    assert out.endswith("known ones go on\n")


def test_more_databases_with_the_same_protection_than_are_kept_ready(run: Run) -> None:
    status, out, err = run("""
        server = lease()
        made = [server.new_database(protect={"t": "c"}) for _ in range(20)]
        print(len({database.name for database in made}))
    """)

    assert (status, out) == (0, "20\n"), err


def test_protecting_while_a_client_is_open_names_the_parameter(run: Run) -> None:
    status, out, err = run("""
        import clickhouse_connect
        server = lease()
        with server.new_database() as first, server.new_database() as second:
            for held in (first.connect(), clickhouse_connect.get_client(dsn=first.dsn)):
                try:
                    second.protect("t", "c")
                except IsolationError as error:
                    print(error)
                held.close()
            second.protect("t", "c")
            print("protected")
    """)

    assert status == 0, err
    assert out.count("name the table in the fixture parameter protect= of the first database") == 2
    assert out.endswith("protected\n")


def test_protecting_after_handing_out_names_the_parameter(run: Run) -> None:
    status, out, err = run("""
        with lease().new_database() as database:
            database.dsn
            try:
                database.protect("events", "tenant_id")
            except IsolationError as error:
                print(error)
    """)

    assert status == 0, err
    assert "protect('events', 'tenant_id') came after a DSN or a client" in out
    assert "clickhouse_database(protect={'events': 'tenant_id'})" in out


def test_chdb_is_loaded_by_nobody_who_does_not_use_it(run: Run) -> None:
    status, out, err = run("""
        heavy = {"chdb", "clickhouse_connect", "docker", "testcontainers"}
        why_not = embedded.EmbeddedProvider().why_not(Wanted(engine="clickhouse"))
        print(sorted(heavy & set(sys.modules)), why_not)
    """)

    assert (status, out) == (0, "[] None\n"), err


def test_without_the_package_the_way_is_passed_over_with_the_command_to_install_it(run: Run) -> None:
    status, out, err = run("""
        embedded.find_spec = lambda name: None
        try:
            lease()
        except IsolationError as error:
            print(error)
    """)

    assert status == 0, err
    assert "embedded: chdb-core is not installed: pip install 'pytest-ssot-isolation[embedded]'" in out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk to fill")
def test_a_full_disk_is_told_and_the_engine_answers_on(run: Run, folder: Path) -> None:
    small = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if small.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        status, out, err = run("""
            with lease().new_database("CREATE TABLE t (x String) ENGINE = MergeTree ORDER BY x") as database:
                client = database.connect()
                try:
                    for _ in range(40):
                        client.command("INSERT INTO t SELECT randomString(1000) FROM numbers(4000)")
                    print("never full")
                except Exception as error:
                    print(type(error).__name__, str(error)[:200])
                print(client.command("SELECT 1"))
        """)
    finally:
        # Lazily: the guardian may just be about to leave it.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)

    assert status == 0, err
    assert "No space left on device" in out or "NOT_ENOUGH_SPACE" in out
    assert out.endswith("1\n")
