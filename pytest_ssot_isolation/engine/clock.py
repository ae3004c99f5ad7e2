"""Virtual time: what gated steps ask for passes when nothing else can, not when a real second has."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


GRID = 2**20
"""Parts of a second that timers keep to."""


class VirtualClock:
    """Timers that fire when they are told to, in the order of their times.

    Args:
        now: The time at which the clock starts, in seconds.
    """

    def __init__(self, now: float) -> None:
        # A whole second, and timers on a grid: else it would hang on the hour of the run which of two
        # timers for the same time comes first.
        self.now = float(math.ceil(now))
        self._timers: list[tuple[int, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()

    def set(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], loop: Any, context: Any
    ) -> asyncio.TimerHandle:
        """Set a timer; two for the same time fire in the order in which they were set."""
        timer = asyncio.TimerHandle(when, callback, args, loop, context)
        heapq.heappush(self._timers, (round(when * GRID), next(self._numbers), timer))
        return timer

    def is_near(self, within: float = float("inf")) -> bool:
        """Whether a timer is due within so many seconds."""
        if not self._timers:
            return False
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return bool(self._timers) and self._timers[0][2].when() <= self.now + within

    def fire(self) -> None:
        """Let time pass until the next timer, and run it."""
        while self._timers:
            _, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                # Never a hair before the time that was asked for: who looks would go back to sleep.
                self.now = max(self.now, timer.when())
                timer._run()
                return

    def rest(self) -> Iterator[tuple[float, asyncio.TimerHandle]]:
        """Hand over the timers that are left, each with the seconds until it is due."""
        for _, _, timer in self._timers:
            if not timer.cancelled():
                yield max(0.0, timer.when() - self.now), timer
        self._timers.clear()
