"""POSIX record locks: held by a process, gone with it however it ends, and not inherited by its children.

A process loses its lock on a file when it closes *any* descriptor of that file, so each file is opened once
in a process and its shares are counted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_guard = threading.RLock()
_open: dict[tuple[int, str], Held] = {}


class Held:
    """One process' shared lock on one file, counted over the shares it was given out for."""

    __slots__ = ("_descriptor", "_path", "_shares")

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._shares = 1

    def shared_again(self) -> Held | None:
        """Return this lock for one share more, or None when the file was removed or made anew meanwhile."""
        if not _is_still(self._path, self._descriptor):
            return None
        self._shares += 1
        return self

    def release(self) -> None:
        """Give back one share; the last one frees the lock."""
        with _guard:
            self._shares -= 1
            if self._shares == 0:
                _open.pop((os.getpid(), str(self._path)), None)
                os.close(self._descriptor)


def share(path: Path, deadline: float) -> Held | None:
    """Take a shared lock, waiting until the deadline (on the monotonic clock).

    Returns:
        The lock, or None when the file was removed meanwhile or stayed locked: make it anew and ask again.
    """
    with _guard:
        if (held := _open.get((os.getpid(), str(path)))) is not None and (again := held.shared_again()):
            return again
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return None
        if not _wait(descriptor, fcntl.LOCK_SH, deadline) or not _is_still(path, descriptor):
            os.close(descriptor)
            return None
        held = Held(path, descriptor)
        _open[(os.getpid(), str(path))] = held
        return held


@contextlib.contextmanager
def exclusive(path: Path, deadline: float) -> Iterator[bool]:
    """Hold the exclusive lock on a file for the length of the block; yields whether it was got in time.

    Must not be asked for while this process shares the same file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _wait(descriptor, fcntl.LOCK_EX, deadline)
    finally:
        os.close(descriptor)


def is_mine(path: Path) -> bool:
    """Whether this process shares the lock on the file; opening the file elsewhere would then lose it."""
    return (os.getpid(), str(path)) in _open


def is_free(path: Path) -> bool:
    """Whether nobody holds the exclusive lock on the file; True as well when there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        # Asking with a shared lock: two who ask at once must not take each other for the holder.
        return _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _wait(descriptor: int, kind: int, deadline: float) -> bool:
    while not _try(descriptor, kind):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False
