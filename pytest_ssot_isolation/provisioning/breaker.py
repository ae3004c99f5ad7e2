"""A circuit breaker for one run: a server that failed three times is not tried again."""

from __future__ import annotations

import hashlib
import threading
from typing import ClassVar, Final

from pytest_ssot_isolation.errors import IsolationError, ServerGivenUp

FAILURES: Final = 3


class Breaker:
    """Counts one server's failures in a row; at the third it opens and stays open for the run.

    There is no half-open state: a run is short, and the one first cause tells more than a late recovery
    that makes some tests pass and others fail.
    """

    _all: ClassVar[dict[str, Breaker]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self) -> None:
        self._failures = 0
        self._cause = ""

    @classmethod
    def of(cls, run_id: str, server: str) -> Breaker:
        """Return the breaker of one server in one run; ``server`` may hold a password, so it is digested."""
        key = hashlib.sha256(f"{run_id}\n{server}".encode()).hexdigest()
        with cls._guard:
            return cls._all.setdefault(key, cls())

    def check(self, engine: str) -> None:
        """Raise ``ServerGivenUp`` with the first cause when the breaker is open."""
        if self._failures >= FAILURES:
            raise ServerGivenUp(
                f"The {engine} server failed {self._failures} times in this run, so it is not tried again.\n"
                f"The first cause was:\n{self._cause}"
            )

    def failed(self, error: IsolationError) -> None:
        """Count one failure."""
        with self._guard:
            if not self._failures:
                self._cause = str(error)
            self._failures += 1

    def succeeded(self) -> None:
        """Forget the failures so far: they were not in a row."""
        with self._guard:
            if self._failures < FAILURES:
                self._failures = 0
