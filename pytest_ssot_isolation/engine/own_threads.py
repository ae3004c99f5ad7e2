"""The context of worker threads in which plain functions are called: as in a server, it outlives a call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar
from typing import Any

_NEVER = object()


class OwnThreads:
    """The contexts of the threads of one run.

    A server with a thread for each request hands no context along: what a request sets and does not reset, such
    as a language or the current user, is there in the next one. Each run begins without any of it.

    Args:
        start: What holds where the run begins, and so in each thread.
    """

    def __init__(self, start: Context) -> None:
        self._start = start
        self._held: dict[int, Context] = {}

    def run(self, of_call: Context, method: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Call a function in this thread's own context, with what the user's session set there for as long.

        Args:
            of_call: The context of the call: who acts, and what signing in set.
            method: What to call.
            arguments: By name.
        """
        start = self._start
        given = {var: value for var, value in of_call.items() if start.get(var, _NEVER) is not value}
        held = self._held.setdefault(threading.get_ident(), start.copy())
        return held.run(_acting, given, method, arguments)


def _acting(
    given: Mapping[ContextVar[Any], object], method: Callable[..., Any], arguments: Mapping[str, Any]
) -> Any:
    tokens = [(variable, value, variable.set(value)) for variable, value in given.items()]
    try:
        return method(**arguments)
    finally:
        for variable, value, token in tokens:
            # What the application has set to another value since, it has left there itself.
            if variable.get(_NEVER) is value:
                variable.reset(token)
