"""The locks that tell whether anybody of a run is left."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_ssot_isolation.errors import ServerFailed
from pytest_ssot_isolation.provisioning import lease, locks
from pytest_ssot_isolation.provisioning.home import CLIENTS

OTHER = """
import sys, time
from pathlib import Path
from pytest_ssot_isolation.provisioning import locks
{how}
print("held", flush=True)
sys.stdin.read()
"""
SHARED = "held = locks.share(Path(sys.argv[1]), time.monotonic() + 5)"
EXCLUSIVE = "held = locks.exclusive(Path(sys.argv[1]), time.monotonic() + 5); held.__enter__()"


def other_process(how: str, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER.format(how=how), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def ends(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def exclusive_is_to_be_had(path: Path) -> bool:
    with locks.exclusive(path, time.monotonic()) as got:
        return got


def test_a_shared_lock_keeps_the_exclusive_one_away_until_its_process_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    other = other_process(SHARED, file)

    assert not exclusive_is_to_be_had(file)
    ends(other)
    assert exclusive_is_to_be_had(file)


def test_whether_the_exclusive_lock_is_held_can_be_asked(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    assert locks.is_free(file)
    other = other_process(EXCLUSIVE, file)

    assert not locks.is_free(file)
    ends(other)
    assert locks.is_free(file)


def test_two_shares_of_one_process_are_one_lock_that_ends_with_the_last(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    first, second = (locks.share(file, time.monotonic() + 1) for _ in range(2))
    assert first is second
    assert first is not None

    first.release()
    assert locks.is_mine(file)
    first.release()
    assert not locks.is_mine(file)


def test_a_file_removed_while_it_was_waited_for_is_no_lock(tmp_path: Path) -> None:
    assert locks.share(tmp_path / "gone" / "lock", time.monotonic()) is None


def test_a_folder_of_runs_that_belongs_to_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = lease.root(tmp_path)
    monkeypatch.setattr("os.getuid", lambda: 4711)
    mine.rename(mine.with_name("ssot-isolation-4711"))

    with pytest.raises(ServerFailed, match=r"belongs to somebody else.*\nRemove it, or set TMPDIR"):
        lease.root(tmp_path)


def test_a_folder_left_by_a_dead_run_is_swept_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    runs = lease.root(tmp_path)
    for name in ("dead", "living"):
        (runs / name / "server" / "data").mkdir(parents=True)
        (runs / name / "server" / CLIENTS).touch()
    other = other_process(SHARED, runs / "living" / "server" / CLIENTS)

    lease.sweep(runs)
    assert [run.name for run in runs.iterdir()] == ["living"]
    ends(other)
