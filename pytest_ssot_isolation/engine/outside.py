"""What could still wake a task from outside the event loop: worker threads, foreign threads, sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from asyncio import selector_events
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


_EXECUTORS = "concurrent/futures/thread.py"


class Connection(Protocol):
    """A way out of the process that can be cut."""

    def abort(self) -> None:
        """Drop it at once."""
        ...

    def get_extra_info(self, name: str) -> Any:
        """As a transport: ``"socket"``, or None."""
        ...


class Outside:
    """Keeps count of what is under way outside.

    Attributes:
        jobs: Functions that run in worker threads for the loop, and connections that are being made.
        has_sockets: Whether a socket was ever opened through the loop, or watched by it.
        heard_at: When something last came from a socket, on the monotonic clock.
        stirred: How often something went out to it, a server's answer inside this process counted in.
    """

    def __init__(self) -> None:
        self.jobs = 0
        self.stirred = 0
        self.has_sockets = False
        self.heard_at = 0.0
        self._owed: set[object] = set()
        self._own: frozenset[int] = frozenset()

    def begin(self) -> None:
        """Take the threads that are alive for such as cannot wake the application's tasks."""
        self._own = frozenset(thread.ident or 0 for thread in threading.enumerate())

    def sent(self, transport: object) -> None:
        """A reply is owed."""
        self._owed.add(transport)

    def heard(self, transport: object) -> None:
        """The reply came, or its beginning."""
        self._owed.discard(transport)
        self.heard_at = time.monotonic()

    def lost(self, transport: object) -> None:
        """No reply will come any more."""
        self.stirred += 1
        self._owed.discard(transport)

    @property
    def owes(self) -> bool:
        """Whether something is surely under way: a job, a reply, a thread of the application's own."""
        return self.jobs > 0 or bool(self._owed) or self.works_in_threads()

    @property
    def is_possible(self) -> bool:
        """Whether anything but a task could still end a wait."""
        return self.jobs > 0 or self.has_sockets or self.works_in_threads()

    def works_in_threads(self) -> bool:
        """Whether a thread that the harness did not know is at work, and not merely kept for later."""
        if threading.active_count() <= len(self._own):
            return False
        frames = sys._current_frames()
        return any(
            not is_idle(thread, frames.get(thread.ident or 0))
            for thread in threading.enumerate()
            if thread.ident not in self._own
        )


def is_idle(thread: threading.Thread, frame: FrameType | None) -> bool:
    """Whether a thread of a pool waits for its next piece of work.

    Asked of the pool, which knows as soon as work is handed over; the thread itself may still seem to wait.
    """
    kept = getattr(thread, "idle_workers", None)
    if kept is not None and type(thread).__module__.startswith("anyio."):
        return thread in kept
    if frame is None:
        return not thread.is_alive()
    if frame.f_code.co_name != "_worker" or not frame.f_code.co_filename.endswith(_EXECUTORS):
        return False
    pool = frame.f_locals.get("executor_reference", lambda: None)()
    return pool is None or pool._idle_semaphore._value >= len(pool._threads)


class WatchedSocket:
    """A socket that a library watches by its number, such as that of a database's C client."""

    def __init__(self, fd: Any) -> None:
        self._fd = fd if isinstance(fd, int) else fd.fileno()

    def fileno(self) -> int:
        """Its number."""
        return self._fd

    def get_extra_info(self, name: str) -> Any:
        """As a transport."""
        return self if name == "socket" else None

    def abort(self) -> None:
        """Nothing more than ``hang_up``: the closing is left to its owner."""


def hang_up(connection: Connection) -> int | None:
    """Drop a connection so that the other side knows at once, and not when the loop turns next.

    Returns:
        Its local port; None where there is none.
    """
    port = None
    watched = connection.get_extra_info("socket")
    try:
        with socket.socket(fileno=os.dup(watched.fileno())) as same:
            name = same.getsockname()
            port = name[1] if isinstance(name, tuple) else None
            connection.abort()
            same.shutdown(socket.SHUT_RDWR)
    except (OSError, AttributeError):
        connection.abort()  # closed meanwhile, or no socket
    return port


class WatchedTransport(selector_events._SelectorSocketTransport):  # type: ignore[name-defined, misc]
    """Tells the loop what it sends and hears.

    Attributes:
        senders: Indices of the users whose steps sent over it since something last came.
    """

    def __init__(self, loop: Any, *args: Any, **options: Any) -> None:
        self._is_ours = True
        self.senders: set[int] = set()
        self._is_answered = False
        super().__init__(loop, *args, **options)
        # What a server in this process sends is owed to nobody outside.
        self._is_ours = self._server is None

    def write(self, data: Any) -> None:
        """As a socket's transport."""
        self._loop.outside.stirred += 1
        if self._is_ours:
            self._loop.note_sent(self)
        super().write(data)

    def writelines(self, list_of_data: Any) -> None:
        """As a socket's transport."""
        self._loop.outside.stirred += 1
        if self._is_ours:
            self._loop.note_sent(self)
        super().writelines(list_of_data)

    def _read_ready(self) -> None:
        if self.senders and self._loop.holds_back(self):
            self._loop._remove_reader(self._sock_fd)
            return
        self._is_answered = True
        self._loop.outside.heard(self)
        self._loop.hear(super()._read_ready)

    def sent_by(self, user: int) -> None:
        """Note whose request it carries; of those before that are not answered, too."""
        if self._is_answered:
            self._is_answered = False
            self.senders.clear()
        self.senders.add(user)

    def read_on(self) -> None:
        """Let what was held back come in."""
        if self.is_reading():
            self._loop._add_reader(self._sock_fd, self._read_ready)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        self._loop.outside.lost(self)
        super()._call_connection_lost(exc)


def transports_near(
    task: asyncio.Task[object], known: Callable[[object], bool], most: int = 400
) -> list[Any]:
    """Transports that the suspended frames of a task refer to, the nearest first.

    Where the loop is written in C its transports cannot be watched; what a call waits on can be found.

    Args:
        task: A task that is not running.
        known: Says of an object whether it is a transport.
        most: Objects to look at.
    """
    import gc

    found: list[Any] = []
    step: Any = task.get_coro()
    level: list[object] = []
    while step is not None:
        frame = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
        if frame is not None:
            level = [*frame.f_locals.values(), *level]
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)
    seen: set[int] = set()
    while level and len(seen) < most:
        following: list[object] = []
        for each in level[: most - len(seen)]:
            if id(each) in seen or isinstance(each, (type, str, bytes, int, float)):
                continue
            seen.add(id(each))
            if known(each):
                found.append(each)
                continue
            following += gc.get_referents(each)
        if found:
            break
        level = following
    return found
