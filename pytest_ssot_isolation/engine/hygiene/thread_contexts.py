"""Looks at what context variables hold in worker threads: a thread serves many users, and its context stays."""

from __future__ import annotations

import decimal
import threading
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from pytest_ssot_isolation.engine.lanes import USER
from pytest_ssot_isolation.model.context import CURRENT

OURS = frozenset((USER, CURRENT))

Turn: TypeAlias = tuple[int, int]
"""User, and id of the call."""

Met: TypeAlias = Callable[[str, object, Turn, Turn], None]
"""Told name and value of a variable, who left it, and who met it."""


class ThreadContexts:
    """Remembers who set which variable in which thread.

    ``run_in_executor`` hands no context along, so what a job sets stays in the thread's own context, and the
    next job finds it. A job that sets the variable itself has not met what was there before.
    """

    def __init__(self) -> None:
        self._left: WeakKeyDictionary[threading.Thread, dict[ContextVar[Any], tuple[object, Turn]]]
        self._left = WeakKeyDictionary()

    def forget(self) -> None:
        """Another run begins: its users are others."""
        self._left.clear()

    def looked_at(self, job: Callable[..., Any], turn: Turn, met: Met) -> Callable[..., Any]:
        """A job that is looked at before and after, in the thread that runs it.

        Args:
            job: What runs in the thread.
            turn: Whose job it is.
            met: Told of each variable that held another's value until the job's end.
        """

        def run(*arguments: Any) -> Any:
            before = _values(copy_context())
            try:
                return job(*arguments)
            finally:
                self._note(before, _values(copy_context()), turn, met)

        return run

    def _note(
        self,
        before: Mapping[ContextVar[Any], object],
        after: Mapping[ContextVar[Any], object],
        turn: Turn,
        met: Met,
    ) -> None:
        left = self._left.setdefault(threading.current_thread(), {})
        for variable, value in after.items():
            if variable not in before or before[variable] is not value:
                left[variable] = (value, turn)
            elif variable in left and left[variable][0] is value and left[variable][1][0] != turn[0]:
                met(variable.name, value, left[variable][1], turn)
        for variable in left.keys() - after.keys():
            del left[variable]


def _values(context: Context) -> dict[ContextVar[Any], object]:
    return {
        variable: value
        for variable, value in context.items()
        if variable not in OURS and not _is_untouched(value)
    }


def _is_untouched(value: object) -> bool:
    """Whether it is what the first use of ``decimal`` in a thread puts there, which nobody chose.

    Flags apart: each calculation raises them, and they tell no more than that there was one.
    """
    if not isinstance(value, decimal.Context):
        return False
    usual = decimal.DefaultContext
    return _settings(value) == _settings(usual)


def _settings(context: decimal.Context) -> tuple[object, ...]:
    return (
        context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp,
        tuple(context.traps.values()),
    )  # fmt: skip
