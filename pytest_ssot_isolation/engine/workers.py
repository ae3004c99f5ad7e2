"""The worker threads of a check: which of them does a piece of work is no chance.

What code leaves in a thread, such as a thread-local session, is met by whoever is served there next. In a pool of the
standard library that hangs on whether the thread before had come to rest a microsecond earlier.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

MOST = 32
"""Threads at once, as in the standard library's pool at the most."""


class Workers(ThreadPoolExecutor):
    """An executor in which the first thread that is free does the next piece of work.

    A thread is free once its last piece of work has ended, and the event loop has been told so.

    Args:
        name: How the names of its threads begin.
    """

    def __init__(self, name: str) -> None:
        super().__init__(max_workers=1, thread_name_prefix=name)
        self._name = name
        self._each: list[ThreadPoolExecutor] = []
        self._last: list[Future[Any]] = []
        self._told: dict[int, asyncio.Future[Any]] = {}
        self._taken = 0
        self._choosing = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As the standard library's."""
        if self._shutdown:
            return super().submit(fn, *args, **kwargs)  # which refuses it in the usual words
        with self._choosing:
            self._taken = place = self._first_free()
            if place == len(self._each):
                self._each.append(ThreadPoolExecutor(1, f"{self._name}-{place}"))
                self._last.append(Future())
            self._told.pop(place, None)
            self._last[place] = future = self._each[place].submit(fn, *args, **kwargs)
            return future

    def _first_free(self) -> int:
        for place, last in enumerate(self._last):
            told = self._told.get(place)
            if last.done() and (told is None or told.done()):
                return place
        # With all of them at work, the next in turn has it after its own.
        return len(self._each) if len(self._each) < MOST else (self._taken + 1) % MOST

    def awaited(self, future: asyncio.Future[Any]) -> None:
        """Take note by what the loop is told of the piece of work that was handed in last."""
        self._told[self._taken] = future

    @property
    def threads(self) -> list[threading.Thread]:
        """Those that were started."""
        return [thread for each in self._each for thread in each._threads]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As the standard library's."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        for each in self._each:
            each.shutdown(wait, cancel_futures=cancel_futures)
