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


class Connection(Protocol):
    """A way out of the process that can be cut."""

    def abort(self) -> None:
        """Drop it at once."""
        ...


class Outside:
    """Keeps count of what is under way outside.

    Attributes:
        jobs: Functions that run in worker threads for the loop.
        has_sockets: Whether a socket was ever opened through the loop, or watched by it.
        heard_at: When something last came from a socket, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.jobs = 0
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
            not is_idle(frames.get(thread.ident or 0))
            for thread in threading.enumerate()
            if thread.ident not in self._own
        )


def is_idle(frame: FrameType | None) -> bool:
    """Whether a thread of a pool waits for its next piece of work."""
    if frame is None:
        return True
    if frame.f_code.co_name == "_worker" and frame.f_code.co_filename.endswith(
        "concurrent/futures/thread.py"
    ):
        return True
    for _ in range(3):  # anyio's: queue.get, and what that calls
        code = frame.f_code
        if code.co_filename.endswith("anyio/_backends/_asyncio.py"):
            return code.co_name == "run" and code.co_qualname.startswith("WorkerThread")
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


class WatchedSocket:
    """A socket that a library watches by its number, such as that of a database's C client."""

    def __init__(self, fd: Any) -> None:
        self._fd = fd if isinstance(fd, int) else fd.fileno()

    def abort(self) -> None:
        """Shut it down, and leave the closing to its owner."""
        try:
            with socket.socket(fileno=os.dup(self._fd)) as same:
                same.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed meanwhile, or no socket


class WatchedTransport(selector_events._SelectorSocketTransport):  # type: ignore[name-defined, misc]
    """Tells the loop what it sends and hears."""

    def __init__(self, loop: Any, *args: Any, **options: Any) -> None:
        self._is_ours = True
        super().__init__(loop, *args, **options)
        # What a server in this process sends is owed to nobody outside.
        self._is_ours = self._server is None

    def write(self, data: Any) -> None:
        """As a socket's transport."""
        if self._is_ours:
            self._loop.note_sent(self)
        super().write(data)

    def writelines(self, list_of_data: Any) -> None:
        """As a socket's transport."""
        if self._is_ours:
            self._loop.note_sent(self)
        super().writelines(list_of_data)

    def _read_ready(self) -> None:
        self._loop.outside.heard(self)
        super()._read_ready()

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
