"""The event loop that the harness owns for one check, its worker threads, and a watchdog."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Coroutine
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from pytest_ssot_isolation.engine.gate import new_loop
from pytest_ssot_isolation.engine.outside import is_idle
from pytest_ssot_isolation.engine.workers import Workers
from pytest_ssot_isolation.errors import BusyStep, SurfaceError

Result = TypeVar("Result")

BUSY_PATIENCE = 5.0
"""Seconds that one step may burn the processor."""

ENDING_PATIENCE = 1.0
"""Seconds that tasks get to end after an interrupt."""

DEEPEST = 6
"""Places in the code that are told of such a step, the innermost last."""

_ENGINE = str(Path(__file__).parent)

# Nobody else's: the usual ones belong to time-outs, profilers and stack dumps.
WAKE_UP = getattr(signal, "SIGRTMIN", signal.SIGINT) + 9


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
        self._policy = _policy()
        self._before = _current_loop(self._policy)
        self.loop = new_loop(self._kind)
        asyncio.set_event_loop(self.loop)
        self._workers = self.loop.workers = Workers("ssot-worker")
        self.loop.set_default_executor(self._workers)
        self._watchdog = Watchdog(self.loop, self._busy_patience)
        self._watchdog.__enter__()
        return self

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine to its end in the loop.

        Raises:
            SurfaceError: Something stopped the loop from within.
        """
        task = self.loop.create_task(work)
        try:
            result: Result = self.loop.run_until_complete(task)
        except RuntimeError as error:
            if task.done():
                raise
            raise SurfaceError(
                "The harness's event loop was stopped by code that runs in it.\n"
                "To fix this, do not call loop.stop() in the application, its world or the surface."
            ) from error
        return result

    def __exit__(self, *_: object) -> None:
        self._watchdog.__exit__()
        loop = self.loop
        try:
            loop.open_gate()
            self._end_tasks()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            # A thread that never ends must not hold up the end of the check; its name is told by the run.
            frames = sys._current_frames()
            at_rest = all(is_idle(thread, frames.get(thread.ident or 0)) for thread in self._workers.threads)
            self._workers.shutdown(wait=at_rest, cancel_futures=True)
            loop._default_executor = loop.workers = None
            _restore(self._policy, self._before)
            # An exception that the application never fetched is told when the collector comes to it: from here on
            # that would be in the middle of another test, or of an import.
            loop.set_exception_handler(lambda loop, context: None)
            loop.close()

    def _end_tasks(self) -> None:
        """Cancel what an interrupt or an error left behind; what it raises was raised before."""
        loop = self.loop
        for _ in range(3):
            left = asyncio.all_tasks(loop)
            if not left:
                return
            for task in left:
                task.cancel()
            try:
                loop.run_until_complete(asyncio.wait(left, timeout=ENDING_PATIENCE))
            except (KeyboardInterrupt, SystemExit):
                continue
            for task in left:
                if task.done() and not task.cancelled():
                    task.exception()  # read, so that nobody is told of it once more


class Watchdog:
    """Ends steps that do not come back, as long as runs are made in a gate loop of this thread.

    Args:
        loop: The gate loop, the harness's own or another's.
        busy_patience: As for ``Host``.
    """

    def __init__(self, loop: Any, busy_patience: float = BUSY_PATIENCE) -> None:
        self.loop = loop
        self._busy_patience = busy_patience

    def __enter__(self) -> Watchdog:
        self._own = threading.get_ident()
        self._ended = threading.Event()
        self._takes_signals = threading.current_thread() is threading.main_thread()
        if self._takes_signals:
            self._handler = signal.signal(WAKE_UP, self._interrupt)
        self._thread = threading.Thread(target=self._watch, name="ssot-watchdog", daemon=True)
        self._thread.start()
        self.loop.outside.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._takes_signals:
            signal.signal(WAKE_UP, self._handler)

    def _watch(self) -> None:
        """End a step that burns the processor: nothing in the loop could, since the loop does not turn."""
        while not self._ended.wait(min(0.25, self._busy_patience / 4)):
            if self.loop.busy_for <= self._busy_patience:
                continue
            frame = sys._current_frames().get(self._own)
            BusyStep.where = (
                f"Busy: one step ran for {self._busy_patience:g} s without an await.\n{_place(frame)}"
            )
            self.loop.busy = BusyStep.where
            if self._takes_signals:
                # A signal also ends what waits in the system: time.sleep, a socket, a lock.
                signal.pthread_kill(self._own, WAKE_UP)
            else:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._own), ctypes.py_object(BusyStep)
                )
            self._ended.wait(self._busy_patience)

    def _interrupt(self, _number: int, _frame: object) -> None:
        if self.loop.busy_for > self._busy_patience:
            raise BusyStep


def _place(frame: FrameType | None) -> str:
    """The stack of a step, from where the application's own code begins."""
    if frame is None:
        return ""
    stack = traceback.extract_stack(frame)
    ours = [place for place, entry in enumerate(stack) if entry.filename.startswith(_ENGINE)]
    own = stack[ours[-1] + 1 :] if ours else stack
    return "".join(traceback.format_list((own or stack)[-DEEPEST:])).rstrip()


def _policy() -> Any:
    with warnings.catch_warnings():
        # From Python 3.14 on policies are on their way out, and to ask for one warns.
        warnings.simplefilter("ignore", DeprecationWarning)
        return asyncio.get_event_loop_policy()


def _current_loop(policy: Any) -> asyncio.AbstractEventLoop | None:
    # To ask where none is set makes one in some versions of Python, and raises in others.
    loop: asyncio.AbstractEventLoop | None = getattr(getattr(policy, "_local", None), "_loop", None)
    return loop


def _restore(policy: Any, loop: asyncio.AbstractEventLoop | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if asyncio.get_event_loop_policy() is not policy:
            asyncio.set_event_loop_policy(policy)
        asyncio.set_event_loop(loop)
