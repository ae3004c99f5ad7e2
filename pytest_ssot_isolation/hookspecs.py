"""Our own hooks, for a conftest or another plugin: add an oracle, a surface or a kind of value, see a finding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.report import Report
    from pytest_ssot_isolation.model.value_kinds import ValueKind
    from pytest_ssot_isolation.model.verdict import Finding


@pytest.hookspec
def pytest_ssot_oracles(config: pytest.Config) -> Iterable[Any]:
    """Return further oracles, which judge every history of every check. Asked once, before the first check.

    Args:
        config: The run's configuration.

    Returns:
        Objects with a ``name`` and ``judge(history) -> Judgement``; a judgement is a pure
        function of the history. Their names may be used in ``oracles=`` like the built-in ones;
        where a check names its oracles, only those judge.
    """
    raise NotImplementedError


@pytest.hookspec
def pytest_ssot_surfaces(config: pytest.Config) -> Iterable[type]:
    """Return surface classes that go by their class name in this run.

    Args:
        config: The run's configuration.

    Returns:
        Subclasses of `Surface`. ``isolation.check("Notes")`` finds the class of that name here.
    """
    raise NotImplementedError


@pytest.hookspec
def pytest_ssot_value_kinds(config: pytest.Config) -> Iterable[ValueKind]:
    """Return further kinds of values for ``secrets(...)``. Asked once, before the tests are collected.

    A ``conftest.py`` below the folder that pytest is started with is read too late for it.

    Args:
        config: The run's configuration.

    Returns:
        Objects ``ValueKind(name, make)``; ``make`` puts a secret text into a value of the kind, such as
        ``ValueKind("reference", lambda secret: f"REF/{secret}")``.
    """
    raise NotImplementedError


@pytest.hookspec
def pytest_ssot_finding(finding: Finding, report: Report, config: pytest.Config) -> None:
    """See each finding of the run once, in the process that prints the summary.

    Under xdist this is the controller: workers send their reports as plain data.

    Args:
        finding: What was found, with its minimal history.
        report: The report of the check that it belongs to.
        config: The run's configuration.
    """
