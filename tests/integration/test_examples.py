"""The golden path runs as a reader would run it: all is proved of it, and its earlier form is refuted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


# Whole suites are run, and other tests beside them.
pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Ran:
    """A run of an example's own tests, in a process of its own."""

    told: str
    proof: str
    reports: tuple[dict[str, Any], ...]

    @property
    def standings(self) -> dict[str, str]:
        """How each claim stands."""
        return dict(re.findall(r"\(`([\w.-]+)`\) \| \*\*(.+?)\*\*", self.proof))

    @property
    def failed(self) -> set[str]:
        """Names of the tests that failed."""
        return set(re.findall(r"^FAILED \S+?::(\w+)", self.told, flags=re.MULTILINE))


def run(project: str, folder: Path, *arguments: str) -> Ran:
    proof, reports = folder / "proof.md", folder / "reports.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no"]
    options = [f"--ssot-report={proof}", f"--ssot-report={reports}", "--ssot-seed=1"]
    keep = [f"--ssot-directory={folder / 'kept'}"]
    done = subprocess.run(
        [*command, *options, *keep, *arguments],
        cwd=EXAMPLES / project,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")},
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    document = json.loads(reports.read_text())
    return Ran(done.stdout, proof.read_text(), tuple(document["reports"]))


def test_every_claim_is_proved_of_the_golden_path(tmp_path: Path) -> None:
    ran = run("golden_path", tmp_path, "--ssot")

    assert ran.failed == set(), ran.told
    # Figures are of the machine, and may be over their budgets where it is busy.
    others = {name: how for name, how in ran.standings.items() if not name.startswith("performance.")}
    assert len(others) == 22
    assert set(others.values()) == {"PROVED"}, others
    assert "NOT SHOWN" not in ran.standings.values()
    assert re.findall(r"^## (\d)", ran.proof, re.MULTILINE) == list("12345678")
    assert {report["verdict"] for report in ran.reports} == {"clean"}


FOUND = {
    "test_a_search_finds_ones_own": "canary",
    "test_a_draft_is_seen_by_its_writer_only": "canary",
    "test_a_count_counts_ones_own": "noninterference",
    "test_an_event_reaches_the_user_it_concerns": "canary",
    "test_an_agent_remembers_what_it_was_told_itself": "canary",
}


def test_mistakes_of_the_earlier_form_are_found_with_few_calls(tmp_path: Path) -> None:
    ran = run("golden_path_before", tmp_path, "tests/test_isolation_before.py", "-k", " or ".join(FOUND))

    assert ran.failed == set(FOUND), ran.told
    assert ran.standings["isolation.concurrent-users"] == "REFUTED"
    for report in ran.reports:
        oracle = FOUND[report["test"].rpartition("::")[2]]
        finding = next(one for one in report["findings"] if one["oracle"] == oracle)
        assert len(finding["calls"]) <= 3, finding["story"]


def test_the_earlier_form_is_refuted_where_a_mistake_is_and_nowhere_else(tmp_path: Path) -> None:
    files = ["tests/test_factories_before.py", "tests/test_connections_before.py"]
    ran = run("golden_path_before", tmp_path, "--ssot", *files)

    assert {name for name, how in ran.standings.items() if how == "REFUTED"} == {
        "ssot.no-shared-state",
        "ssot.factories",
        "isolation.websockets",
        "isolation.databases",
        "resilience.invalid-context",
        "resilience.many-factories",
        "resilience.freed-instances",
        "connections.breaker-per-user",
    }
