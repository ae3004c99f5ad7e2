"""Failing examples, kept in a folder and run first next time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.engine.record import Recording, restore
from pytest_ssot_isolation.errors import ReplayMismatch

if TYPE_CHECKING:
    from pytest_ssot_isolation.surfaces.base import Surface

LONGEST_TEXT = 240
"""Characters of a text form that a report shows; a longer one is named by its file."""

MOST_KEPT = 5


class Store:
    """Keeps recordings of one test.

    Args:
        folder: Where all are kept; None keeps none.
        test: Id of the test; recordings of other tests are left alone.
        plain_test: Whether it is an ordinary test that several users run.
    """

    def __init__(self, folder: Path | None, test: str, *, plain_test: bool = False) -> None:
        self._folder = folder
        self._plain_test = plain_test
        self._name = hashlib.sha256(test.encode()).hexdigest()[:10]
        self._test = test

    def keep(self, recording: Recording, told: Sequence[str] = ()) -> str:
        """Save a recording and its story; gives what ``--ssot-replay`` takes for it."""
        text = recording.to_text()
        if self._folder is None:
            return text
        path = self._folder / f"{self._name}-{recording.digest}.json"
        document = {
            "test": self._test,
            "digest": recording.digest,
            "told": list(told),
            **recording.to_plain(),
        }
        if self._plain_test:
            document["plain_test"] = True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(f".{os.getpid()}.tmp")
            draft.write_text(_readable(document), encoding="utf-8")
            draft.replace(path)
        except OSError:
            return text  # a read-only checkout must not hide the leak
        if len(text) <= LONGEST_TEXT:
            return text
        with contextlib.suppress(ValueError):
            path = path.relative_to(Path.cwd())
        return str(path)

    def known(self, surfaces: Sequence[type[Surface[Any]]]) -> list[Recording]:
        """Recordings of this test that can still be run, the newest first."""
        if self._folder is None or not self._folder.is_dir():
            return []
        found = sorted(
            self._folder.glob(f"{self._name}-*.json"), key=lambda path: path.stat().st_mtime, reverse=True
        )
        recordings = []
        for path in found[:MOST_KEPT]:
            try:
                recordings.append(restore(json.loads(path.read_text(encoding="utf-8")), surfaces))
            except (ReplayMismatch, ValueError, KeyError, TypeError, OSError):
                continue  # of another day's surface: it may be wanted again, and costs nothing
        for path in found[MOST_KEPT:]:
            path.unlink(missing_ok=True)
        return recordings


def _readable(document: dict[str, Any]) -> str:
    """JSON with a line for each call, so that a person can read it."""
    lines = []
    for name, value in document.items():
        if name in ("calls", "told") and value:
            rows = ",\n    ".join(json.dumps(row, ensure_ascii=False) for row in value)
            lines.append(f'  "{name}": [\n    {rows}\n  ]')
        else:
            lines.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
