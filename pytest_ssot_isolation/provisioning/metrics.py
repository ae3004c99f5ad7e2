"""What a pool's connections cost: counted as they happen, summed up only when somebody looks."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Spread:
    """How long one kind of thing took, in seconds.

    Attributes:
        count: How often it happened.
        median: Half of the times were at most this long.
        p95: 95 of 100 were at most this long.
        maximum: None was longer.
    """

    count: int = 0
    median: float = 0.0
    p95: float = 0.0
    maximum: float = 0.0

    @classmethod
    def of(cls, seconds: array[float]) -> Spread:
        """Sum up; nothing at all gives zeros."""
        if not seconds:
            return cls()
        ordered = sorted(seconds)
        last = len(ordered) - 1
        return cls(
            count=len(ordered),
            median=ordered[math.ceil(0.5 * len(ordered)) - 1],
            p95=ordered[math.ceil(0.95 * len(ordered)) - 1],
            maximum=ordered[last],
        )


@dataclass(slots=True)
class ConnectionMetrics:
    """What the pools of one database did since it was handed out.

    Appending to an array costs some 50 ns, so a pool with metrics is as fast as one without.
    """

    failures: int = 0
    _connects: array[float] = field(default_factory=lambda: array("d"), repr=False)
    _waits: array[float] = field(default_factory=lambda: array("d"), repr=False)
    _holds: array[float] = field(default_factory=lambda: array("d"), repr=False)

    @property
    def connects(self) -> Spread:
        """Opening a connection, up to the server's welcome."""
        return Spread.of(self._connects)

    @property
    def waits(self) -> Spread:
        """Waiting for the pool to give a connection."""
        return Spread.of(self._waits)

    @property
    def holds(self) -> Spread:
        """Keeping a connection, until it went back to the pool."""
        return Spread.of(self._holds)

    def connected(self, seconds: float) -> None:
        """Count one connection opened."""
        self._connects.append(seconds)

    def waited(self, seconds: float) -> None:
        """Count one connection given out by the pool."""
        self._waits.append(seconds)

    def held(self, seconds: float) -> None:
        """Count one connection given back to the pool."""
        self._holds.append(seconds)

    def failed(self) -> None:
        """Count one connection that could not be opened or given out."""
        self.failures += 1
