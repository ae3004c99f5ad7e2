"""A circuit breaker: after several failures the database is left alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

from golden_path.errors import CircuitOpen


class CircuitBreaker:
    """Counts failures since the circuit was last closed.

    Args:
        threshold: Failures that open the circuit.
        cooldown: Seconds for which it stays open; then one attempt is let through.
        clock: Seconds that only grow.
    """

    def __init__(
        self, *, threshold: int = 3, cooldown: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = threshold
        self._cooldown = cooldown
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None and self._clock() - self._opened_at < self._cooldown

    def admit(self) -> None:
        """Let an attempt through.

        Raises:
            CircuitOpen: The circuit is open.
        """
        if self.is_open:
            raise CircuitOpen("the database keeps failing; try again in a while")

    def failed(self) -> None:
        self._failures += 1
        if self._failures >= self._threshold:
            self._opened_at = self._clock()
