"""The plugin loads in each way that pytest has, and costs a suite that uses none of it next to nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

HEAVY = ("hypothesis", "testcontainers", "docker", "asyncpg", "clickhouse_connect", "chdb", "httpx", "uvloop")

HEADER = "ssot-isolation: profile default, seed *"


def test_it_loads_by_itself_where_it_is_installed(project: Project) -> None:
    result = project.test("def test_it(isolation): pass").run("--collect-only", plugin="")
    result.stdout.fnmatch_lines([HEADER])


def test_it_loads_by_its_name_where_nothing_loads_by_itself(project: Project) -> None:
    result = project.test("def test_it(user_context): assert user_context.user_id").run_alone()
    result.stdout.fnmatch_lines([HEADER])
    result.assert_outcomes(passed=1)


def test_naming_it_where_it_loads_by_itself_does_no_harm(project: Project) -> None:
    result = project.test("def test_it(user_context): pass").run(plugin="ssot_isolation")
    result.stdout.fnmatch_lines([HEADER])
    result.assert_outcomes(passed=1)


def test_it_can_be_switched_off(project: Project) -> None:
    result = project.test("def test_it(user_context): pass").run(plugin="no:ssot_isolation")
    result.stdout.no_fnmatch_line("ssot-isolation:*")
    result.stdout.fnmatch_lines(["*fixture 'user_context' not found*"])


def test_each_marker_is_registered_and_explained(project: Project) -> None:
    result = project.run("--markers")
    for name in ("isolation", "concurrency", "postgres", "clickhouse", "proves", "ssot"):
        result.stdout.re_match_lines([rf"@pytest\.mark\.{name}\b.*: \S.*"])


def test_nothing_heavy_is_loaded_by_collecting_a_suite_that_uses_none_of_it(project: Project) -> None:
    project.test("def test_it(): pass").conftest(
        f"""
        import sys
        def pytest_collection_finish():
            print("LOADED", sorted({HEAVY!r} & sys.modules.keys()) if isinstance({HEAVY!r}, set) else
                  [name for name in {HEAVY!r} if name in sys.modules])
        """
    )
    result = project.run_alone("-s")
    result.stdout.fnmatch_lines(["*LOADED []"])
    result.assert_outcomes(passed=1)


def test_pytest_loads_five_modules_of_ours_and_no_other_for_them() -> None:
    script = (
        "import sys, pytest, _pytest.config, dataclasses, typing\n"
        "before = set(sys.modules)\n"
        "import pytest_ssot_isolation.plugin, pytest_ssot_isolation.hookspecs\n"
        "print(*sorted(set(sys.modules) - before), sep='\\n')\n"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    package = "pytest_ssot_isolation"
    assert loaded.split() == [
        package,
        *(f"{package}.{name}" for name in ("fixtures", "hookspecs", "options", "plugin")),
    ]


@pytest.mark.parametrize("option", ["--help", "--fixtures"])
def test_help_tells_of_options_and_fixtures(project: Project, option: str) -> None:
    result = project.run(option)
    wanted = {
        "--help": ["*--ssot-postgres=*", "*--ssot-seed=*"],
        "--fixtures": ["isolation -- *", "postgres -- *"],
    }
    for line in wanted[option]:
        result.stdout.fnmatch_lines([line])
