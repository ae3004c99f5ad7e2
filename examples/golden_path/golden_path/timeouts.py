"""How long the service waits for its databases, and what it measured while waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Environment = Literal["local", "ci", "container"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseTimeoutConfig:
    """Time-outs in seconds.

    Attributes:
        connect: For a new connection to be made.
        acquire: For a free connection of the pool.
        statement: For one statement to be answered.
        close: For connections in use at shutdown to come back.
    """

    connect: float = 5.0
    acquire: float = 5.0
    statement: float = 10.0
    close: float = 5.0

    def __post_init__(self) -> None:
        for name in ("connect", "acquire", "statement", "close"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0 seconds, not {getattr(self, name)!r}")

    @classmethod
    def for_environment(cls, environment: Environment) -> DatabaseTimeoutConfig:
        """Return the time-outs for a laptop, a build machine, or a container that is still starting."""
        match environment:
            case "local":
                return cls()
            case "ci":
                return cls(connect=15.0, acquire=15.0, statement=30.0)
            case "container":
                return cls(connect=60.0, acquire=60.0, statement=30.0)
        raise ValueError(f"unknown environment {environment!r}: use 'local', 'ci' or 'container'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Seconds of the latest events of one sort; zeros before the first."""

    count: int
    median: float
    p95: float
    highest: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Spread:
        ordered = sorted(seconds) or [0.0]
        last = len(ordered) - 1
        return cls(
            count=len(ordered),
            median=ordered[last // 2],
            p95=ordered[round(last * 0.95)],
            highest=ordered[last],
        )


def _latest() -> deque[float]:
    return deque(maxlen=1_000)


@dataclass(slots=True)
class ConnectionMetrics:
    """Counts of one pool, over all users: for the operator's dashboard, never for an answer to a user."""

    failures: int = 0
    _connects: deque[float] = field(default_factory=_latest)
    _waits: deque[float] = field(default_factory=_latest)
    _holds: deque[float] = field(default_factory=_latest)

    def connected(self, seconds: float) -> None:
        self._connects.append(seconds)

    def waited(self, seconds: float) -> None:
        self._waits.append(seconds)

    def held(self, seconds: float) -> None:
        self._holds.append(seconds)

    def failed(self) -> None:
        self.failures += 1

    @property
    def connects(self) -> Spread:
        return Spread.of(self._connects)

    @property
    def waits(self) -> Spread:
        return Spread.of(self._waits)

    @property
    def holds(self) -> Spread:
        return Spread.of(self._holds)
