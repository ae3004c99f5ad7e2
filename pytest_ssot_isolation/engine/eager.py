"""A selector that looks a few times for an expected reply before it sleeps, and an alarm that costs little to set.

At the gate each request is waited for by itself, so a run goes to sleep for every one of them. Where the server is
near, to be put to sleep and woken takes longer than the reply, and costs more processor time than to look for it.
"""

from __future__ import annotations

import os
import selectors
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

EAGER = 0.0001
"""Seconds for which a reply is looked for; what takes a server longer is worth the sleep."""

HAIR = 1e-6
"""Seconds by which a loop may be early with a timer."""

# Whoever else wants the processor, the server above all, goes first between two looks.
_LET_OTHERS = getattr(os, "sched_yield", lambda: time.sleep(0))


class EagerSelector(selectors.DefaultSelector):
    """The system's selector.

    Attributes:
        expects_reply: Whether a request just went out. Holds for the next time that nothing is ready.
    """

    expects_reply = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As the system's; where a reply is expected, look for it before going to sleep."""
        if self.expects_reply and (timeout is None or timeout > 0):
            self.expects_reply = False
            until = time.monotonic() + (EAGER if timeout is None else min(EAGER, timeout))
            while time.monotonic() < until:
                if ready := super().select(0):
                    return ready
                _LET_OTHERS()
        return super().select(timeout)


class Alarm:
    """One timer that is set and cleared at nearly every step: the loop's own is kept, and looks when it goes off.

    Args:
        call_later: The loop's own, in real time.
    """

    def __init__(self, call_later: Callable[..., asyncio.TimerHandle]) -> None:
        self._call_later = call_later
        self._then: Callable[[], None] | None = None
        self._due = self._rings = 0.0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Whether it will call somebody."""
        return self._then is not None

    def set(self, seconds: float, then: Callable[[], None]) -> None:
        """Call once, in so many seconds, and not what it was set to before."""
        self._then = then
        self._due = time.monotonic() + seconds
        if self.timer is not None:
            if self._rings <= self._due:
                return
            self.timer.cancel()
        self._rings = self._due
        self.timer = self._call_later(seconds, self._ring)

    def clear(self) -> None:
        """Call nobody."""
        self._then = None

    def end(self) -> None:
        """Call nobody, and leave nothing in the loop."""
        self._then = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _ring(self) -> None:
        self.timer = None
        then = self._then
        if then is None:
            return
        left = self._due - time.monotonic()
        if left > HAIR:
            self.set(left, then)
        else:
            self._then = None
            then()
