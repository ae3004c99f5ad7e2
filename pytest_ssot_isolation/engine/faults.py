"""Faults of a schedule, each done to the root task of one call and to nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_ssot_isolation.model.schedule import Fault

KINDS = ("cancel", "timeout", "disconnect")
"""Names that ``faults=`` takes; ``cancel`` is drawn before the step and in flight."""

DRAWN = {
    "cancel": ("cancel", "cancel in flight"),
    "timeout": ("timeout",),
    "disconnect": ("disconnect",),
}


class Faults:
    """Carries out the faults of one run.

    Only a call's own task is cancelled: to cancel its children would cancel, for example, the shielded
    release of a pool, which no client can do.

    Args:
        faults: What to do, and when.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._of_call = {fault.call: fault for fault in faults}
        self._scopes: dict[int, asyncio.Timeout] = {}
        self.done: set[int] = set()
        self.connection: dict[int, Any] = {}

    def ordered_faults(self) -> tuple[Fault, ...]:
        """All faults that were ordered, whether or not their step came."""
        return tuple(self._of_call.values())

    def ordered(self, call: int) -> bool:
        """Whether something was done to this call: then how it ended says nothing."""
        return call in self.done

    def scope(self, call: int) -> asyncio.Timeout | None:
        """The time-out to run a call in, where one is ordered for it."""
        fault = self._of_call.get(call)
        if fault is None or fault.kind != "timeout":
            return None
        self._scopes[call] = asyncio.timeout(None)
        return self._scopes[call]

    def before(self, call: int, step: int, task: asyncio.Task[object]) -> None:
        """Cancel a call whose reply is already here."""
        fault = self._of_call.get(call)
        if fault is not None and fault.step == step and fault.kind == "cancel":
            self.done.add(call)
            task.cancel()

    def after(self, call: int, step: int, task: asyncio.Task[object], user: int) -> None:
        """Cut a call off right after the step that sent something."""
        fault = self._of_call.get(call)
        if fault is None or fault.step != step or task.done():
            return
        if fault.kind == "cancel in flight":
            self.done.add(call)
            task.cancel()
        elif fault.kind == "timeout" and call in self._scopes:
            self.done.add(call)
            self._scopes[call].reschedule(0.0)
        elif fault.kind == "disconnect" and user in self.connection:
            self.done.add(call)
            self.connection[user].abort()
