"""Faults of a schedule, each done to the root task of one call and to nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_ssot_isolation.engine.outside import hang_up, transports_near

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_ssot_isolation.engine.outside import Connection
    from pytest_ssot_isolation.model.schedule import Fault

KINDS = ("cancel", "timeout", "disconnect")
"""Names that ``faults=`` takes; ``cancel`` is drawn before the step and in flight."""

DRAWN = {
    "cancel": ("cancel", "cancel in flight"),
    "timeout": ("timeout",),
    "disconnect": ("disconnect",),
}


class Limit:
    """A time-out that ends when it is told to; as ``asyncio.timeout``, which would end a turn of the loop later."""

    _task: asyncio.Task[object] | None = None
    _is_over = False

    async def __aenter__(self) -> Limit:
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        return self

    def end(self) -> None:
        """Let the time be over."""
        if self._task is not None:
            self._is_over = True
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        task, self._task = self._task, None
        was_cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        # Somebody else may have cancelled the task as well: then it stays a cancellation.
        if self._is_over and task is not None and task.uncancel() <= self._cancelling and was_cancelled:
            raise TimeoutError from error


class Faults:
    """Carries out the faults of one run.

    Only a call's own task is cancelled: to cancel its children would cancel, for example, the shielded
    release of a pool, which no client can do.

    Args:
        faults: What to do, and when.
        gone: Given the local port of a dropped connection, waits until the server has let go of it; None where
            no server can be asked.
    """

    def __init__(self, faults: Iterable[Fault], gone: Callable[[int], None] | None = None) -> None:
        self._of_call = {fault.call: fault for fault in faults}
        self._gone = gone
        self._limits: dict[int, Limit] = {}
        self.done: set[int] = set()

    def ordered_faults(self) -> tuple[Fault, ...]:
        """All faults that were ordered, whether or not their step came."""
        return tuple(self._of_call.values())

    def ordered(self, call: int) -> bool:
        """Whether something was done to this call: then how it ended says nothing."""
        return call in self.done

    def scope(self, call: int) -> Limit | None:
        """The time-out to run a call in, where one is ordered for it."""
        fault = self._of_call.get(call)
        if fault is None or fault.kind != "timeout":
            return None
        self._limits[call] = Limit()
        return self._limits[call]

    def before(self, call: int, step: int, task: asyncio.Task[object]) -> None:
        """Cancel a call whose reply is already here."""
        fault = self._of_call.get(call)
        if fault is not None and fault.step == step and fault.kind == "cancel":
            self.done.add(call)
            task.cancel()

    def after(
        self, call: int, step: int, task: asyncio.Task[object], sent_over: Connection | None = None
    ) -> None:
        """Cut a call off right after the step that sent something.

        Args:
            call: Id of the call.
            step: Resumptions of its task so far.
            task: The call's own task.
            sent_over: What the step wrote to; None where it wrote to nothing.
        """
        fault = self._of_call.get(call)
        if fault is None or task.done() or call in self.done:
            return
        if fault.kind == "disconnect" and step >= fault.step:
            # The first step from there on that sends: what was sent over before may be another's by now.
            connection = sent_over or connection_of(task)
            if connection is not None:
                self.done.add(call)
                self._of_call[call] = replace(fault, step=step)
                port = hang_up(connection)
                if self._gone is not None and port is not None:
                    # Locks and an open transaction end with the session: when, must not be chance.
                    self._gone(port)
        elif fault.step != step:
            return
        elif fault.kind == "cancel in flight":
            self.done.add(call)
            task.cancel()
        elif fault.kind == "timeout" and call in self._limits:
            self.done.add(call)
            self._limits[call].end()


def connection_of(task: asyncio.Task[object]) -> Connection | None:
    """The connection on which a parked call waits, where the loop does not tell; None where it is not sure."""
    if getattr(asyncio.get_running_loop(), "_selector", None) is not None:
        return None
    found = transports_near(task, _is_transport)
    return found[0] if len(found) == 1 else None


def _is_transport(each: object) -> bool:
    return type(each).__module__.startswith("uvloop") and hasattr(each, "abort") and hasattr(each, "write")
