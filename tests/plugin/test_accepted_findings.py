"""Accepted findings: told with their reason and not failed on, until they end; bad and unused rows are told."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_ssot_isolation.errors import BadKnownFindings
from pytest_ssot_isolation.known_findings import KnownFindings, Row
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Finding, Verdict

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

LEAKY = """
    from pytest_ssot_isolation import Surface, keys, operation, secrets

    class Notes(Surface):
        @operation(title=keys(), body=secrets())
        async def write(self, title, body):
            self.world[title] = body

        @operation(title=keys())
        async def read(self, title):
            return self.world.get(title)

    def test_notes(isolation):
        isolation.check(Notes, world=dict, examples=5, oracles=("canary",))
"""

NUMBERED = """
    from pytest_ssot_isolation import Surface, keys, operation, secrets

    class Notes(Surface):
        @operation(title=keys(), body=secrets())
        async def write(self, title, body):
            self.world[self.user.user_id, title] = body
            return {"id": len(self.world)}

        @operation(title=keys())
        async def read(self, title):
            return self.world.get((self.user.user_id, title))

    def test_notes(isolation):
        isolation.check(Notes, world=dict, examples=20)
"""

ROW = """
[[finding]]
key = "canary:read:result"
reason = "notes are public for now"
expires = {expires}
"""


def test_an_accepted_finding_is_told_and_does_not_fail(project: Project) -> None:
    project.ini(ssot_known="known.toml").file("known.toml", ROW.format(expires="9999-12-31")).test(LEAKY)

    result = project.run("--ssot-report=found.json")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["accepted *test_notes*canary*saw what alice wrote*"])
    result.stdout.no_fnmatch_line("*not seen in this run*")
    assert "notes are public for now (until 9999-12-31)" in (project.pytester.path / "found.json").read_text()


def test_an_expired_row_fails_again_and_says_so(project: Project) -> None:
    project.ini(ssot_known="known.toml").file("known.toml", ROW.format(expires="2020-01-31")).test(LEAKY)

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the acceptance of canary:read:result ended on 2020-01-31*"])


def test_a_row_that_nothing_needed_is_told(project: Project) -> None:
    row = ROW.format(expires="9999-12-31").replace("read", "gone")
    project.ini(ssot_known="known.toml").file("known.toml", row).test("def test_it(): pass")

    result = project.run()

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["ssot-isolation: accepted finding not seen in this run: canary:gone:result;*"]
    )


def test_the_key_of_a_finding_stands_in_its_report(project: Project) -> None:
    result = project.test(LEAKY).run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*key *canary:read:result*"])


@pytest.mark.parametrize(("bar", "outcome"), [("leak", "passed"), ("low", "failed"), ("hint", "failed")])
def test_the_bar_decides_what_fails(project: Project, bar: str, outcome: str) -> None:
    result = project.test(NUMBERED).run(f"--ssot-fail-on={bar}")

    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines(["*test_notes*noninterference*"])


def test_a_bad_file_stops_the_run_and_says_what_to_write(project: Project) -> None:
    project.ini(ssot_known="known.toml").file("known.toml", "[[finding]]\nkey = 'a'\n").test(
        "def test_it(): pass"
    )

    result = project.run()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*row 1 (a) has no reason*", "*To fix this, write each as in:*"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "it cannot be read: No such file"),
        ("[[finding]", "it is no TOML"),
        ("[known]", "it knows no 'known', only tables [[finding]]"),
        ("[finding]\nkey = 'a'", "finding must be written [[finding]]"),
        ("finding = [1]", "row 1 is no table"),
        ("[[finding]]\nkey = 'a'\nreason = 'b'\nexpires = 2030-01-31\nuntil = 1", "row 1 (a) has 'until'"),
        ("[[finding]]\nkey = 'a'\nreason = 'b'", "row 1 (a) has no expires"),
        ("[[finding]]\nkey = 'a'\nreason = 'b'\nexpires = '2030-01-31'", "is not a date such as 2030-01-31"),
        (
            "[[finding]]\nkey = 'a'\nreason = 'b'\nexpires = 2030-01-31T00:00:00",
            "is not a date such as 2030-01-31",
        ),
        ("[[finding]]\nkey = 3\nreason = 'b'\nexpires = 2030-01-31", "row 1: key = 3 is not a text"),
        ("[[finding]]\nkey = 'a'\nreason = ' '\nexpires = 2030-01-31", "row 1 (a): reason is empty"),
        (
            2 * "[[finding]]\nkey = 'a'\nreason = 'b'\nexpires = 2030-01-31\n",
            "rows 1 and 2 have the same key 'a'",
        ),
    ],
)
def test_each_bad_row_is_told_by_its_number(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "known.toml"
    if text is not None:
        path.write_text(text)

    with pytest.raises(BadKnownFindings) as error:
        KnownFindings.read(path)

    assert why in str(error.value)
    assert "To fix this" in str(error.value)


def test_a_row_holds_through_its_last_day_and_for_its_test_alone() -> None:
    finding = Finding(oracle="canary", operation="read")
    row = Row(key="canary:read:result", reason="public", expires=datetime.date(2026, 5, 1), test="a")

    def accepted(day: int, test: str) -> bool:
        return bool(KnownFindings([row], datetime.date(2026, 5, day)).accepts(finding, test).accepted)

    assert [accepted(1, "a"), accepted(2, "a"), accepted(1, "b")] == [True, False, False]
    unused = KnownFindings([row], datetime.date(2026, 5, 2)).unused([Report(verdict=Verdict.CLEAN, test="a")])
    assert unused == [
        "accepted finding not seen in this run: canary:read:result of a, expired on 2026-05-01; "
        "remove the row once it is mended"
    ]
