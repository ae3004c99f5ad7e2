"""What is kept in memory for a user, and for that user only."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from golden_path.context import UserExecutionContext

Value = TypeVar("Value")


class UserCache(Generic[Value]):
    """Values by user and name; the oldest go first.

    Args:
        capacity: Most values kept, over all users.
    """

    def __init__(self, capacity: int = 1_000) -> None:
        self._capacity = capacity
        self.changes = 0
        self._values: OrderedDict[tuple[tuple[str, str], str], Value] = OrderedDict()

    def get(self, context: UserExecutionContext, name: str) -> Value | None:
        return self._values.get((context.key, name))

    def put(self, context: UserExecutionContext, name: str, value: Value, *, since: int) -> None:
        """Keep a value that was asked for when ``changes`` was ``since``, unless it may be stale by now."""
        if since != self.changes:
            return
        self._values[context.key, name] = value
        self._values.move_to_end((context.key, name))
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)

    def drop(self, context: UserExecutionContext, name: str) -> None:
        self.changes += 1
        self._values.pop((context.key, name), None)


class Drafts:
    """The unsaved text of each user: one for each, gone with the process."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str], str] = {}

    def keep(self, context: UserExecutionContext, text: str) -> None:
        self._texts[context.key] = text

    def of(self, context: UserExecutionContext) -> str | None:
        return self._texts.get(context.key)
