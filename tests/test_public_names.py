"""The public names: this list is what downstream suites may import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pytest_ssot_isolation
from pytest_ssot_isolation import errors

NAMES = tuple(
    """
    AuditError BadExtension BadKnownFindings Busy CutShort DatabaseUnusable Deadlock DemoUnusable
    EngineForked EngineInUse InconclusiveCheck
    InvalidContext
    InvalidSecret InvalidTimeout IsolationError LeakFound MissingContext MutationUnusable NoServer NotATestDatabase
    ProtectionRefused Refused ReplayMismatch ServerError ServerFailed ServerGivenUp Stuck SurfaceError
    ConnectionMetrics DatabaseTimeoutConfig Finding Report Surface UserExecutionContext Verdict
    WebSocketClosed WebSurface
    clickhouse_database context_sequences contexts current_context hostile_ids keys observed operation
    other_user postgres_database secrets
    """.split()  # noqa: SIM905 - forty names are easier to read so.
)


def test_the_public_names_are_these_and_no_others() -> None:
    assert sorted(pytest_ssot_isolation.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(pytest_ssot_isolation, name).__name__ == name
    assert name in dir(pytest_ssot_isolation)


def test_every_error_of_the_package_can_be_caught_by_its_public_name() -> None:
    own = {name for name, value in vars(errors).items() if isinstance(value, type)}
    raised = {name for name in own if issubclass(vars(errors)[name], errors.IsolationError)}
    assert raised <= set(NAMES)


def test_a_name_that_is_not_there_is_told_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'pytest_ssot_isolation' has no attribute 'Surfaces'"):
        pytest_ssot_isolation.Surfaces  # type: ignore[attr-defined]  # noqa: B018


def test_importing_one_name_loads_no_other_folder() -> None:
    script = (
        "import sys; from pytest_ssot_isolation import UserExecutionContext;"
        "print(*(name for name in sys.modules if name.startswith('pytest_ssot_isolation')))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert set(loaded.split()) == {
        "pytest_ssot_isolation",
        "pytest_ssot_isolation.errors",
        "pytest_ssot_isolation.model",
        "pytest_ssot_isolation.model.context",
    }


def test_type_checkers_are_told_every_public_name() -> None:
    source = Path(pytest_ssot_isolation.__file__).read_text()
    missing = [name for name in NAMES if f" import {name} as {name}\n" not in source]
    assert missing == []
