"""What is kept in memory, so that the database is asked less often."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from golden_path.context import UserExecutionContext

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Values by key; the oldest go first.

    Args:
        capacity: Most values kept.
    """

    def __init__(self, capacity: int = 1_000) -> None:
        self._capacity = capacity
        self.changes = 0
        self._values: OrderedDict[str, Value] = OrderedDict()

    def get(self, key: str) -> Value | None:
        return self._values.get(key)

    def put(self, key: str, value: Value, *, since: int) -> None:
        """Keep a value that was asked for when ``changes`` was ``since``, unless it may be stale by now."""
        if since != self.changes:
            return
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)

    def drop(self, key: str) -> None:
        self.changes += 1
        self._values.pop(key, None)


class Drafts:
    """The unsaved text of each user: one for each, gone with the process."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def keep(self, context: UserExecutionContext, text: str) -> None:
        self._texts[_address(context)] = text

    def of(self, context: UserExecutionContext) -> str | None:
        return self._texts.get(_address(context))


def _address(context: UserExecutionContext) -> str:
    # User ids look like e-mail addresses, and people do not remember how they spelt theirs.
    return context.user_id.strip().casefold()
