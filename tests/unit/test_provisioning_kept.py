"""The initialised data folder that is kept for later runs: whole or not there, and nothing half done left."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pytest_ssot_isolation.provisioning.postgres import kept


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "base" / "1").mkdir(parents=True)
    (folder / "base" / "1" / "1259").write_bytes(b"a table")
    (folder / "global").mkdir()
    (folder / "global" / "pg_control").write_bytes(b"as initialised")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_is_kept_is_what_was_there_before_the_server_started(tmp_path: Path, data: Path) -> None:
    before = contents(data)
    place = tmp_path / "cache" / "postgres-18"
    place.parent.mkdir()

    rest = kept.keep(data, place, "secret")
    (data / "global" / "pg_control").write_bytes(b"in production")
    assert not place.exists(), "half of it must not be taken for the whole"
    rest()

    home = tmp_path / "home"
    home.mkdir()
    assert kept.take(place, home) == {"password": "secret"}
    assert contents(home / "data") == before


def test_nothing_is_left_of_a_copy_that_could_not_be_ended(tmp_path: Path, data: Path) -> None:
    place = tmp_path / "cache" / "postgres-18"
    place.parent.mkdir()
    rest = kept.keep(data, place, "secret")
    (data / "base").rename(tmp_path / "gone")
    rest()
    assert list(place.parent.iterdir()) == []


def test_what_a_killed_run_began_to_keep_is_removed_by_a_later_one_and_a_running_ones_is_not(
    tmp_path: Path, data: Path
) -> None:
    place = tmp_path / "cache" / "postgres-18"
    place.parent.mkdir()
    killed, running = place.with_name("postgres-18.1.ab"), place.with_name("postgres-18.2.cd")
    for folder in (killed, running):
        (folder / "data").mkdir(parents=True)
    hour_ago = time.time() - 3600
    os.utime(killed, (hour_ago, hour_ago))

    kept.keep(data, place, "secret")()

    assert sorted(place.parent.iterdir()) == [place, running]
