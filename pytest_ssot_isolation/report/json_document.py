"""The reports of a run as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from pytest_ssot_isolation.model.report import Report

FORMAT: Final = 1
"""Goes up when a reader of the document has to change."""


def render(reports: Iterable[Report]) -> str:
    """Return the document, keys in a fixed order, with a line break at the end."""
    document = {"format": FORMAT, "reports": [report.to_plain() for report in reports]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
