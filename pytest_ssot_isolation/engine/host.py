"""The event loop that the harness owns for one check, its worker threads, and a watchdog."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import traceback
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

from pytest_ssot_isolation.engine.gate import new_loop
from pytest_ssot_isolation.errors import BusyStep

Result = TypeVar("Result")

BUSY_PATIENCE = 5.0
"""Seconds that one step may burn the processor."""


class Host:
    """Owns one gate loop from the first run of a check to its last.

    Args:
        kind: ``"asyncio"`` or ``"uvloop"``.
        busy_patience: Seconds that one step may take before it is ended, and its example given up.
    """

    def __init__(self, kind: str = "asyncio", busy_patience: float = BUSY_PATIENCE) -> None:
        self._kind = kind
        self._busy_patience = busy_patience

    def __enter__(self) -> Host:
        self.loop = new_loop(self._kind)
        self._own = threading.get_ident()
        self._ended = threading.Event()
        self._before = _current_loop()
        asyncio.set_event_loop(self.loop)
        self._watchdog = threading.Thread(target=self._watch, name="ssot-watchdog", daemon=True)
        self._watchdog.start()
        self.loop.own_threads = threading.active_count()
        return self

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end in the loop."""
        result: Result = self.loop.run_until_complete(work)
        return result

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watchdog.join()
        loop = self.loop
        try:
            loop.open_gate()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=1.0))
            loop.run_until_complete(loop.shutdown_asyncgens())
            executor = getattr(loop, "_default_executor", None)
            if executor is not None:
                # A thread that never ends must not hold up the end of the check; its name is told by the run.
                executor.shutdown(wait=False, cancel_futures=True)
                loop._default_executor = None
        finally:
            asyncio.set_event_loop(self._before)
            loop.close()

    def _watch(self) -> None:
        """End a step that burns the processor: nothing in the loop could, since the loop does not turn."""
        while not self._ended.wait(0.25):
            if self.loop.busy_for > self._busy_patience:
                frame = sys._current_frames().get(self._own)
                where = "".join(traceback.format_stack(frame)[-6:]) if frame is not None else ""
                BusyStep.where = (
                    f"Busy: one step ran for {self._busy_patience:g} s without an await.\n{where}"
                )
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._own), ctypes.py_object(BusyStep)
                )
                self._ended.wait(self._busy_patience)


def _current_loop() -> asyncio.AbstractEventLoop | None:
    with warnings.catch_warnings():
        # Asking where none is set warns in some versions of Python and raises in others.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return asyncio.get_event_loop_policy().get_event_loop() if _has_loop() else None
        except RuntimeError:
            return None


def _has_loop() -> bool:
    local = getattr(asyncio.get_event_loop_policy(), "_local", None)
    return getattr(local, "_loop", None) is not None
