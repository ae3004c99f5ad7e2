"""Reports of the checks reach the summary, files and hooks, under xdist as well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

CHECKS = """
    import pytest
    from pytest_ssot_isolation import Finding, Report, Verdict

    @pytest.mark.parametrize("number", range(4))
    def test_check(isolation, number):
        finding = Finding(oracle="canary", explanation=f"bob read what alice wrote, {number}")
        isolation.record(Report(verdict=Verdict.LEAK, findings=(finding,), test=isolation.test_id))
"""

LISTENER = """
    from types import SimpleNamespace
    from pytest_ssot_isolation import harness
    harness.Isolation = lambda **facts: SimpleNamespace(**facts)

    def pytest_ssot_finding(finding, report, config):
        with open(config.rootpath / "heard.txt", "a") as file:
            file.write(f"{report.test} {finding.explanation}\\n")
"""


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["one process", "two workers"])
def test_each_finding_is_told_once_whatever_the_number_of_workers(
    project: Project, workers: tuple[str, ...]
) -> None:
    result = project.conftest(LISTENER).test(CHECKS).run("--ssot-report=out/found.json", *workers)
    result.assert_outcomes(passed=4)

    said = [f"bob read what alice wrote, {number}" for number in range(4)]
    heard = (project.pytester.path / "heard.txt").read_text().splitlines()
    assert sorted(line.partition("] ")[2] for line in heard) == said
    document = json.loads((project.pytester.path / "out/found.json").read_text())
    assert sorted(report["findings"][0]["explanation"] for report in document["reports"]) == said
    for line in said:
        result.stdout.fnmatch_lines([f"*{line}*"])


def test_a_report_file_is_written_where_nothing_was_checked(project: Project) -> None:
    project.test("def test_it(): pass").run_alone("--ssot-report=found.json").assert_outcomes(passed=1)
    document = json.loads((project.pytester.path / "found.json").read_text())
    assert document["reports"] == []
