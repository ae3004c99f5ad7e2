"""Sockets that libraries watch by their number: one that woke a task is left alone until the task went on.

Such a socket stays ready until the task's step has read from it or forgotten it. At the gate that step may have to
wait for another user's reply, and the loop would turn all the while, and keep a processor from the servers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_ssot_isolation.engine.lanes import Lane, Turns


class Watches:
    """One way, reading or writing, in which sockets are watched.

    Args:
        add: Watches a socket, as ``loop.add_reader``.
        remove: Ends that, as ``loop.remove_reader``.

    Attributes:
        asleep: What is left alone by the socket's number: who was woken, and how to watch it again.
    """

    def __init__(self, add: Callable[..., Any], remove: Callable[[Any], bool]) -> None:
        self._add = add
        self._remove = remove
        self.asleep: dict[int, tuple[Lane, tuple[Any, ...]]] = {}

    def add(
        self, turns: Turns | None, fd: Any, callback: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        """Watch a socket; during a run only until it wakes a task."""
        self.asleep.pop(_number(fd), None)
        if turns is None:
            self._add(fd, callback, *args)
        else:
            self._add(fd, self._woke, turns, fd, callback, args)

    def remove(self, fd: Any) -> bool:
        """Watch it no more; whether it was watched."""
        was_asleep = self.asleep.pop(_number(fd), None) is not None
        return bool(self._remove(fd)) or was_asleep

    def _woke(self, turns: Turns, fd: Any, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        turns.woken = None
        callback(*args)
        if turns.woken is not None and self._remove(fd):
            self.asleep[_number(fd)] = (turns.woken, (fd, self._woke, turns, fd, callback, args))

    def went_on(self, lane: Lane | None) -> None:
        """Watch again what woke a task that has made its step; after a run, None, whatever is left."""
        for number, (woken, watch) in list(self.asleep.items()):
            if lane is None or woken is lane:
                del self.asleep[number]
                self._add(*watch)


def _number(fd: Any) -> int:
    return fd if isinstance(fd, int) else int(fd.fileno())
