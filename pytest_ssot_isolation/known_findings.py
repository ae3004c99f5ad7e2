"""Findings that a team accepts for a time, each with a reason and an end: told, and not failed on."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pytest_ssot_isolation.errors import BadKnownFindings
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Finding

FIELDS: Final = {"key": str, "reason": str, "expires": datetime.date, "test": str}
NEEDED: Final = ("key", "reason", "expires")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One accepted finding.

    Attributes:
        key: What the report names as the finding's key.
        reason: Why it is accepted.
        expires: The last day on which it is.
        test: Id of the one test for which it is; empty for all.
    """

    key: str
    reason: str
    expires: datetime.date
    test: str = ""

    def is_about(self, finding: Finding, test: str) -> bool:
        """Whether it is this finding, in this test."""
        return self.key == finding.name and self.test in ("", test)


class KnownFindings:
    """The accepted findings of a run.

    Args:
        rows: They, in order.
        today: The day of the run.
    """

    def __init__(self, rows: Sequence[Row] = (), today: datetime.date | None = None) -> None:
        self.rows = tuple(rows)
        self.today = today if today is not None else datetime.date.today()

    @classmethod
    def read(cls, path: Path | None) -> KnownFindings:
        """Read a file of them; no file, none accepted.

        Raises:
            BadKnownFindings: The file cannot be read, or a row of it cannot be used.
        """
        if path is None:
            return cls()
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadKnownFindings.because(path, f"it cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadKnownFindings.because(path, f"it is no TOML: {error}") from error
        if strangers := sorted(set(document) - {"finding"}):
            raise BadKnownFindings.because(path, f"it knows no {strangers[0]!r}, only tables [[finding]]")
        listed = document.get("finding", [])
        if not isinstance(listed, list):
            raise BadKnownFindings.because(path, "finding must be written [[finding]], once for each")
        rows = [_row(path, number, row) for number, row in enumerate(listed, 1)]
        places: dict[tuple[str, str], int] = {}
        for number, row in enumerate(rows, 1):
            if (first := places.setdefault((row.key, row.test), number)) != number:
                raise BadKnownFindings.because(
                    path, f"rows {first} and {number} have the same key {row.key!r}"
                )
        return cls(rows)

    def accepts(self, finding: Finding, test: str) -> Finding:
        """The finding, with the reason where it is accepted today."""
        if finding.oracle == "expectation":
            return finding  # An assertion of the author's own, who can mend it.
        for row in self.rows:
            if row.is_about(finding, test) and row.expires >= self.today:
                return replace(finding, accepted=f"{row.reason} (until {row.expires.isoformat()})")
        return finding

    def notes(self, findings: Iterable[Finding], test: str) -> list[str]:
        """What a reader should know of rows that no longer hold for what was found."""
        return [
            f"the acceptance of {row.key} ended on {row.expires.isoformat()} ({row.reason})"
            for row in self.rows
            if row.expires < self.today and any(row.is_about(finding, test) for finding in findings)
        ]

    def unused(self, reports: Sequence[Report]) -> list[str]:
        """A sentence on each row that no finding of the run needed."""
        return [
            f"accepted finding not seen in this run: {row.key}"
            + (f" of {row.test}" if row.test else "")
            + (f", expired on {row.expires.isoformat()}" if row.expires < self.today else "")
            + "; remove the row once it is mended"
            for row in self.rows
            if not any(
                row.is_about(finding, report.test) for report in reports for finding in report.findings
            )
        ]


def _row(path: Path, number: int, given: Any) -> Row:
    where = f"row {number}"
    if not isinstance(given, dict):
        raise BadKnownFindings.because(path, f"{where} is no table")
    where += f" ({given['key']})" if isinstance(given.get("key"), str) else ""
    if strangers := sorted(set(given) - set(FIELDS)):
        raise BadKnownFindings.because(path, f"{where} has {strangers[0]!r}, which is not known")
    for name in NEEDED:
        if name not in given:
            raise BadKnownFindings.because(path, f"{where} has no {name}")
    for name, value in given.items():
        if not isinstance(value, FIELDS[name]) or isinstance(value, datetime.datetime):
            kind = "a date such as 2030-01-31, without quotes" if name == "expires" else "a text"
            raise BadKnownFindings.because(path, f"{where}: {name} = {value!r} is not {kind}")
        if isinstance(value, str) and not value.strip():
            raise BadKnownFindings.because(path, f"{where}: {name} is empty")
    return Row(**given)


def at_start(path: Path) -> KnownFindings:
    """Read the file when a run starts, so that a bad one stops it.

    Raises:
        pytest.UsageError: It cannot be used.
    """
    import pytest

    try:
        return KnownFindings.read(path)
    except BadKnownFindings as error:
        raise pytest.UsageError(str(error)) from None
