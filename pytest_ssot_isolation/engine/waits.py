"""What a parked task waits on: told from its future and from the innermost frames of its await chain."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sysconfig
import types
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

LONGEST_CHAIN = 200

_HARNESS = str(Path(__file__).parents[1])
_EXAMPLES = str(Path(_HARNESS, "_data"))
_PYTHON = sysconfig.get_path("stdlib")

# `async with` over an @asynccontextmanager awaits a step of a generator; `await pool.acquire()`, where the object's
# own `__await__` gives `coroutine.__await__()`, a wrapper. Only the object behind them tells more.
_BEHIND: dict[str, type] = {
    "async_generator_asend": types.AsyncGeneratorType,
    "async_generator_athrow": types.AsyncGeneratorType,
    "coroutine_wrapper": types.CoroutineType,
}

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
    """What one parked task waits on."""

    kind: Kind
    task: asyncio.Task[object]

    @property
    def site(self) -> str:
        """See ``site_of``; read when it is asked for, since most waits are never shown."""
        return site_of(self.task)


def site_of(task: asyncio.Task[object]) -> str:
    """The innermost place of a parked task for a person: in the application, else in a library, else in Python's."""
    told = rank = -1
    frames = list(_chain(task))
    for place, (_, code) in enumerate(frames):
        if (nearness := _nearness(code)) >= rank:
            told, rank = place, nearness
    if told < 0:
        return "?"
    step, code = frames[told]
    frame = (
        getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None) or getattr(step, "ag_frame", None)
    )
    line = frame.f_lineno if frame is not None and frame.f_lineno else code.co_firstlineno
    return f"{_short(code)}:{line} in {code.co_qualname}"


@lru_cache(maxsize=4096)
def _nearness(code: CodeType) -> int:
    """How near a place in the code is to the application's author."""
    file = code.co_filename
    if (file.startswith(_HARNESS) and not file.startswith(_EXAMPLES)) or file.startswith("<"):
        return 0
    if file.startswith(_PYTHON) and "site-packages" not in file:
        return 1
    is_library = "site-packages" in file or "dist-packages" in file
    return 2 if is_library and not file.startswith(_EXAMPLES) else 3


def has_begun(task: asyncio.Task[object]) -> bool:
    """Whether the task made a step already."""
    coroutine = task.get_coro()
    return not inspect.iscoroutine(coroutine) or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED


def _chain(task: asyncio.Task[object]) -> Iterator[tuple[object, CodeType]]:
    """The steps in which a task is suspended, outermost first, each with its code."""
    step: object | None = task.get_coro()
    for _ in range(LONGEST_CHAIN):
        if step is None:
            return
        code, inner = _code_and_next(step)
        if code is not None:
            yield step, code
        step = inner


def _code_and_next(step: Any) -> tuple[CodeType | None, object | None]:
    kind = type(step)
    if kind is types.CoroutineType:
        return step.cr_code, step.cr_await
    if kind is types.GeneratorType:
        return step.gi_code, step.gi_yieldfrom
    if kind is types.AsyncGeneratorType:
        return step.ag_code, step.ag_await
    if behind := _BEHIND.get(kind.__name__):
        return None, next((it for it in gc.get_referents(step) if type(it) is behind), None)
    # Coroutines of compiled modules have the same attributes, and a type of their own.
    code = getattr(step, "cr_code", None) or getattr(step, "gi_code", None)
    return code, getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)


@lru_cache(maxsize=4096)
def _short(code: CodeType) -> str:
    return "/".join(code.co_filename.replace(os.sep, "/").split("/")[-2:])


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


def wait_of(task: asyncio.Task[object]) -> Wait:
    """Tell what a parked task waits on.

    Args:
        task: A task that is not running.

    Returns:
        The kind of wait; its place in the code is read when it is asked for.
    """
    future = getattr(task, "_fut_waiter", None)
    if future is None or future.done() or isinstance(future, asyncio.Task):
        return Wait(Kind.LANE, task)
    children = getattr(future, "_children", None)
    if children is not None:
        tasks_only = all(isinstance(child, asyncio.Task) or child.done() for child in children)
        return Wait(Kind.LANE if tasks_only else Kind.UNCLEAR, task)
    if _is_shield_of_task(future):
        return Wait(Kind.LANE, task)
    innermost: CodeType | None = None
    around: CodeType | None = None
    step: Any = task.get_coro()
    for _ in range(LONGEST_CHAIN):  # as `_chain`, in place: this is asked at nearly every step
        if type(step) is types.CoroutineType:
            innermost, around = step.cr_code, innermost
            step = step.cr_await
            continue
        if step is None:
            break
        code, step = _code_and_next(step)
        if code is not None:
            innermost, around = code, innermost
    if innermost is None:
        return Wait(Kind.UNCLEAR, task)
    return Wait(_kind_of(innermost, around), task)


@lru_cache(maxsize=4096)
def _kind_of(innermost: CodeType, around: CodeType | None) -> Kind:
    """What waits in this code, called from that code."""
    file, name = _short(innermost), innermost.co_qualname
    last = name.rsplit(".", 1)[-1]
    if file == "asyncio/locks.py" and around is not None:
        waits_for_socket = around.co_qualname.rsplit(".", 1)[-1] not in _ANYIO_WAITERS
        if _short(around).endswith(_EVENTS_OF_SOCKETS) and waits_for_socket:
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
