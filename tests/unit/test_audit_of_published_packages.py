"""The audit on packages that are well kept and widely used: what it finds there, and that it finds no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_ssot_isolation.audit.definitions import judge as judge_definition
from pytest_ssot_isolation.audit.definitions import read_canonical
from pytest_ssot_isolation.audit.shared_state import judge as judge_state
from pytest_ssot_isolation.audit.sources import read_package
from pytest_ssot_isolation.audit.subject import Subject

PACKAGES = ("click", "httpx", "starlette")

each_package = pytest.mark.parametrize("name", PACKAGES)


@each_package
def test_nothing_of_a_user_is_held_against_them(name: str) -> None:
    assert [one.explanation for one in judge_state(read_package(name)) if one.severity == "leak"] == []


def test_clicks_stack_of_contexts_is_known_to_be_one_for_each_thread() -> None:
    told = {one.operation: one for one in judge_state(read_package("click"))}

    stack = told["click.globals._local"]
    assert stack.severity == "low"
    assert "is shared by all tasks of a thread, and holds what belongs to a user: push_context()" in (
        stack.explanation
    )


def test_starlettes_table_of_convertors_is_known_to_take_more_at_run_time() -> None:
    told = {one.operation: one.severity for one in judge_state(read_package("starlette"))}

    assert told["starlette.convertors.CONVERTOR_TYPES"] == "low"


def test_clicks_module_for_windows_is_in_a_cycle_and_imports_on_windows_only(tmp_path: Path) -> None:
    subject = Subject(["click"], directory=tmp_path)

    assert "click._compat -> click._winconsole" in [one.path for one in subject.cycles("click")]
    if sys.platform != "win32":
        (alone,) = subject.alone("click")
        assert alone.operation == "click._winconsole"


def test_httpx_has_no_cycle_and_starlette_has_none(tmp_path: Path) -> None:
    subject = Subject(["httpx", "starlette"], directory=tmp_path)

    assert subject.cycles("httpx") == subject.cycles("starlette") == ()


@pytest.mark.parametrize(
    ("line", "sound"),
    [
        ("click:Command", True),
        ("httpx:Client", True),
        ("starlette.routing:Route", True),
        ("click.core:Command", False),
        ("httpx._client:Client", False),
    ],
)
def test_a_public_name_is_canonical_where_its_package_exports_it(line: str, sound: bool) -> None:
    (canonical,) = read_canonical([line])

    findings = judge_definition(canonical, read_package(canonical.place.module.partition(".")[0]))

    assert (findings == ()) is sound, [one.explanation for one in findings]


@each_package
def test_they_are_read_without_being_imported(name: str) -> None:
    code = (
        "import sys\n"
        "from pytest_ssot_isolation.audit.shared_state import judge\n"
        "from pytest_ssot_isolation.audit.sources import read_package\n"
        "from pytest_ssot_isolation.audit.imports import cycles\n"
        f"sources = read_package({name!r}); judge(sources); cycles({name!r}, sources)\n"
        f"print({name!r} in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "False"
