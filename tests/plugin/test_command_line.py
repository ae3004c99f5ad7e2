"""The command line ``ssot-isolation``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_ssot_isolation import cli
from pytest_ssot_isolation.provisioning import doctor


@pytest.mark.parametrize("command", ["report", "probe"])
def test_what_is_not_there_yet_says_so_and_what_to_do(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "anything", "--at-all"]) == 2
    assert f"ssot-isolation {command}: not in this version" in capsys.readouterr().err


def test_init_writes_a_test_that_runs_and_finds_a_leak(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init", "test_first.py"]) == 0
    assert "pytest test_first.py" in capsys.readouterr().out
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    result = pytester.runpytest_subprocess("-p", "ssot_isolation", "test_first.py", "--ssot-profile=quick")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LeakFound*"])


def test_init_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "test_mine.py"
    there.write_text("mine")
    assert cli.main(["init", str(there)]) == 1
    assert there.read_text() == "mine"
    said = capsys.readouterr().err
    assert f"{there} exists already, and is left as it is" in said
    assert f"ssot-isolation init {tmp_path / 'test_mine_first.py'}" in said


def test_init_says_why_it_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", str(tmp_path / "nowhere" / "test_it.py")]) == 1
    assert "cannot be written: No such file or directory." in capsys.readouterr().err


def ways(**troubles: str) -> tuple[doctor.Way, ...]:
    return tuple(doctor.Way(name, trouble, "1 MB", f"install {name}") for name, trouble in troubles.items())


def test_doctor_names_the_way_that_is_used_and_how_to_get_the_others() -> None:
    engine = doctor.Engine("postgres", ways(dsn="none given", container="", embedded=""))
    assert doctor.render([engine]).splitlines() == [
        "postgres: a test gets it by way of 'container'",
        "  dsn        not here: none given",
        "             1 MB",
        "             to get it: install dsn",
        "  container  ready",
        "             1 MB",
        "  embedded   ready",
        "             1 MB",
    ]


@pytest.mark.parametrize(("trouble", "code"), [("", 0), ("no library", 1)])
def test_doctor_succeeds_where_every_engine_can_be_used(
    trouble: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = (
        doctor.Engine("postgres", ways(embedded="")),
        doctor.Engine("clickhouse", ways(embedded=trouble)),
    )
    monkeypatch.setattr(doctor, "examine", lambda: engines)
    assert cli.main(["doctor"]) == code
    assert ("clickhouse: CANNOT BE USED HERE" in capsys.readouterr().out) is bool(trouble)


def test_doctor_examines_each_way_of_both_engines() -> None:
    found = {engine.name: [way.name for way in engine.ways] for engine in doctor.examine()}
    every_way = ["dsn", "container", "embedded"]
    assert found == {"postgres": every_way, "clickhouse": every_way}


def test_the_module_is_the_command() -> None:
    run = [sys.executable, "-m", "pytest_ssot_isolation", "--help"]
    assert "usage: ssot-isolation" in subprocess.run(run, capture_output=True, text=True, check=True).stdout
