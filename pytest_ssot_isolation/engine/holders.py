"""Says in words what keeps an object alive, from the program's own names down to the object."""

from __future__ import annotations

import asyncio
import gc
import sys
import types
from collections import deque
from typing import Any, Final

_MOST_LOOKED_AT: Final = 300


def held_by(target: object) -> str:
    """Return the name behind which an object is kept, such as ``app.agents._instances['alice']``.

    Args:
        target: An object that should have been freed.

    Returns:
        The shortest way found from a module, class, cached function or task; a plain
        sentence where none was found within a few hundred objects.
    """
    seen = {id(target)}
    queue: deque[tuple[object, str]] = deque([(target, "")])
    ignored = {id(queue), id(seen), id(sys.modules)}
    looked_at = 0
    while queue and looked_at < _MOST_LOOKED_AT:
        value, tail = queue.popleft()
        looked_at += 1
        referrers = gc.get_referrers(value)
        ignored.add(id(referrers))
        for referrer in referrers:
            if id(referrer) in seen or id(referrer) in ignored or isinstance(referrer, types.FrameType):
                continue
            seen.add(id(referrer))
            if name := _name_of(referrer, value):
                return name + tail
            queue.append((referrer, _step(referrer, value) + tail))
        del referrers
    return "something that has no name in any module"


def _name_of(referrer: object, value: object) -> str:
    """The program's own name for a place that refers to a value; empty where it has none."""
    if isinstance(referrer, dict):
        module = sys.modules.get(referrer.get("__name__", "")) if "__name__" in referrer else None
        if module is not None and module.__dict__ is referrer:
            return f"{module.__name__}.{_key_of(referrer, value)}"
    if isinstance(referrer, type):
        return f"{referrer.__module__}.{referrer.__qualname__}.{_key_of(dict(referrer.__dict__), value)}"
    if hasattr(referrer, "cache_info") and hasattr(referrer, "__wrapped__"):
        wrapped: Any = referrer.__wrapped__
        return f"the cache of {wrapped.__module__}.{wrapped.__qualname__}"
    if isinstance(referrer, asyncio.Task):
        return f"the running task {referrer.get_name()!r}"
    if isinstance(referrer, types.FunctionType) and "<locals>" not in referrer.__qualname__:
        return f"a default argument of {referrer.__module__}.{referrer.__qualname__}"
    return ""


def _step(referrer: object, value: object) -> str:
    if isinstance(referrer, dict):
        key = next((key for key, kept in referrer.items() if kept is value), None)
        return f"[{key!r}]" if isinstance(key, (str, int)) else "[...]"
    if isinstance(referrer, (list, deque)):
        return "[...]"
    if isinstance(referrer, (set, frozenset, tuple)):
        return "{...}" if not isinstance(referrer, tuple) else ""
    if isinstance(referrer, types.MethodType):
        return ""
    own = getattr(referrer, "__dict__", None)
    if isinstance(own, dict):
        return f".{_key_of(own, value)}" if any(kept is value for kept in own.values()) else ""
    return ""


def _key_of(names: dict[str, Any], value: object) -> str:
    return next((str(name) for name, kept in names.items() if kept is value), "...")
