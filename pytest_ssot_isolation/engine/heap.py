"""The collector during a hunt: it runs between two runs, and looks at what the hunt made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OF_THE_INTERPRETER = 1_000
"""Objects that an interpreter may have set aside itself when it began: 375 in Python 3.12, none in others."""


class Collector:
    """Says when the collector runs: between two runs, where next to nothing of the hunt's own is alive.

    Within a run it would walk all that the run has seen so far, and wake finalizers of the application at a place
    that nobody chose.
    """

    def __init__(self) -> None:
        self._is_held = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep it off until ``run_if_due``, and what is alive now out of its sight.

        That outlives the hunt, and to walk it again and again between the examples took a fifth of their time. Where
        the application has set something aside already, nothing is hidden: to undo it would undo the application's.
        Where the collector is off already it stays off.
        """
        self._is_held = gc.isenabled()
        hides = gc.get_freeze_count() <= OF_THE_INTERPRETER
        gc.disable()
        if hides:
            gc.freeze()
        try:
            yield
        finally:
            if hides:
                gc.unfreeze()
            if self._is_held:
                self._is_held = False
                gc.enable()

    def run_if_due(self) -> None:
        """Let it run now, where it would have run by itself meanwhile."""
        if not self._is_held:
            return
        gc.enable()
        try:
            # It runs when the next object is made, or, in some versions of Python, at the next call after that.
            for _ in range(2):
                _make_one()
        finally:
            gc.disable()


def _make_one() -> list[object]:
    return []
