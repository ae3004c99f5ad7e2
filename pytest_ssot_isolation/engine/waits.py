"""What a parked task waits on: told from its future and from the innermost frames of its await chain."""

from __future__ import annotations

import asyncio
import gc
import os
import types
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType

LONGEST_CHAIN = 200

_STEPS_OF_GENERATORS = frozenset({"async_generator_asend", "async_generator_athrow"})

_SYNC_FILES = frozenset(
    {"asyncio/locks.py", "asyncio/queues.py", "asyncio/taskgroups.py", "asyncio/timeouts.py"}
)
_TASK_WAITERS = frozenset(
    {"wait", "_wait", "wait_for", "_wait_for_one", "_cancel_and_wait", "gather", "shield"}
)
_ANYIO_WAITERS = frozenset(
    {"acquire", "acquire_on_behalf_of", "wait", "_acquire", "__aexit__", "_deliver_cancellation"}
)
# These park in an asyncio.Event that a socket sets: it looks like a lock and is the outside world.
_EVENTS_OF_SOCKETS = ("psycopg/waiting.py", "psycopg/waiting_async.py", "_backends/_asyncio.py")
_HOLDERS = frozenset({"Lock.acquire", "Semaphore.acquire", "BoundedSemaphore.acquire"})


class Kind(Enum):
    """Who can end a wait."""

    LANE = "another task"
    LOCK = "a lock that another task holds"
    TIMER = "a timer"
    OUTSIDE = "the outside world"
    UNCLEAR = "a future that nobody explains"


@dataclass(frozen=True, slots=True)
class Wait:
    """What one parked task waits on, and where in the code."""

    kind: Kind
    site: str


def _code_of(step: object) -> CodeType | None:
    for name in ("cr_code", "gi_code", "ag_code"):
        code: CodeType | None = getattr(step, name, None)
        if code is not None:
            return code
    return None


def chain(task: asyncio.Task[object]) -> list[tuple[str, str, int]]:
    """Frames in which a task is suspended, outermost first: short file name, qualified name, line."""
    frames: list[tuple[str, str, int]] = []
    step: object | None = task.get_coro()
    for _ in range(LONGEST_CHAIN):
        code = _code_of(step)
        if code is not None:
            frame = (
                getattr(step, "cr_frame", None)
                or getattr(step, "gi_frame", None)
                or getattr(step, "ag_frame", None)
            )
            line = frame.f_lineno if frame is not None and frame.f_lineno else code.co_firstlineno
            short = "/".join(code.co_filename.replace(os.sep, "/").split("/")[-2:])
            frames.append((short, code.co_qualname, line))
        step = (
            getattr(step, "cr_await", None)
            or getattr(step, "gi_yieldfrom", None)
            or getattr(step, "ag_await", None)
        )
        if step is None:
            break
        if type(step).__name__ in _STEPS_OF_GENERATORS:
            # `async with` over an @asynccontextmanager awaits such a step, and only its generator tells more.
            step = next(
                (it for it in gc.get_referents(step) if isinstance(it, types.AsyncGeneratorType)), step
            )
    return frames


def _site(frames: list[tuple[str, str, int]]) -> str:
    """The innermost place outside the standard library's own waiting code, for a person."""
    for file, name, line in reversed(frames):
        if not file.startswith("asyncio/"):
            return f"{file}:{line} in {name}"
    return f"{frames[-1][0]}:{frames[-1][2]} in {frames[-1][1]}" if frames else "?"


def _is_shield_of_task(future: asyncio.Future[object]) -> bool:
    """Whether the future is the outer one of ``shield``: its inner task has a lane of its own."""
    callbacks = getattr(future, "_callbacks", None) or ()
    for callback, _context in callbacks:
        if getattr(callback, "__qualname__", "").startswith("shield.<locals>"):
            for cell in callback.__closure__ or ():
                try:
                    if isinstance(cell.cell_contents, asyncio.Task):
                        return True
                except ValueError:
                    continue
    return False


def wait_of(task: asyncio.Task[object], extra: frozenset[str] = frozenset()) -> Wait:
    """Tell what a parked task waits on.

    Args:
        task: A task that is not running.
        extra: Names of further waiters of the kind "another task": ``module/file.py`` or a qualified name.

    Returns:
        The kind of wait and the place in the code.
    """
    future = getattr(task, "_fut_waiter", None)
    frames = chain(task)
    site = _site(frames)
    if future is None or future.done() or isinstance(future, asyncio.Task):
        return Wait(Kind.LANE, site)
    children = getattr(future, "_children", None)
    if children is not None:
        tasks_only = all(isinstance(child, asyncio.Task) or child.done() for child in children)
        return Wait(Kind.LANE if tasks_only else Kind.UNCLEAR, site)
    if _is_shield_of_task(future):
        return Wait(Kind.LANE, site)
    if not frames:
        return Wait(Kind.UNCLEAR, site)
    return Wait(_kind_of(frames, extra), site)


def _kind_of(frames: list[tuple[str, str, int]], extra: frozenset[str]) -> Kind:
    file, name, _ = frames[-1]
    last = name.rsplit(".", 1)[-1]
    if file in extra or name in extra:
        return Kind.LANE
    if file == "asyncio/locks.py" and len(frames) > 1:
        around_file, around_name, _ = frames[-2]
        waits_for_socket = around_name.rsplit(".", 1)[-1] not in _ANYIO_WAITERS
        if around_file.endswith(_EVENTS_OF_SOCKETS) and waits_for_socket:
            return Kind.OUTSIDE
    if file == "asyncio/locks.py" and name in _HOLDERS:
        return Kind.LOCK
    if file in _SYNC_FILES or (file == "asyncio/tasks.py" and last in _TASK_WAITERS):
        return Kind.LANE
    if file == "asyncio/tasks.py" and last == "sleep":
        return Kind.TIMER
    if file.startswith("anyio/") or file.endswith("_backends/_asyncio.py"):
        return Kind.LANE if last in _ANYIO_WAITERS else Kind.UNCLEAR
    if file == "asyncio/streams.py":
        return Kind.OUTSIDE
    return Kind.UNCLEAR
