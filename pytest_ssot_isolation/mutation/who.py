"""Whose code runs, and which values are that user's own."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from pytest_ssot_isolation.model.context import CURRENT, UserExecutionContext

if TYPE_CHECKING:
    from collections.abc import Set

USER: Final = "user"
TENANT: Final = "tenant"


class Roster:
    """The users of the run that goes on now."""

    def __init__(self) -> None:
        self._contexts: Sequence[UserExecutionContext] = ()

    def take(self, contexts: Sequence[UserExecutionContext]) -> None:
        """Take down who takes part in the run that begins."""
        self._contexts = contexts

    @property
    def is_acting(self) -> bool:
        """Whether a user's code runs now, so far as that is known."""
        return CURRENT.get() is not None

    def ids(self) -> tuple[tuple[str, str], ...]:
        """The ids of the user whose code runs now, tenant first.

        In a thread or a task that belongs to no user, such as a driver's own, those of all who take part.
        """
        acting = CURRENT.get()
        return _ids([acting] if acting is not None else self._contexts)

    def everybody(self) -> tuple[tuple[str, str], ...]:
        """The ids of all who take part."""
        return _ids(self._contexts)

    def whose(self, value: object) -> frozenset[str]:
        """What a value is to the acting user: their user id, their tenant's, both, or neither."""
        return parts_of(value, self.ids())


def _ids(contexts: Iterable[UserExecutionContext]) -> tuple[tuple[str, str], ...]:
    tenants = [(TENANT, one.tenant_id) for one in contexts if one.tenant_id is not None]
    return tuple(dict.fromkeys([*tenants, *((USER, one.user_id) for one in contexts)]))


def parts_of(value: object, ids: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Which of these ids a value is, or has among its items."""
    if isinstance(value, list | tuple | set | frozenset):
        found: Set[str] = frozenset().union(*(parts_of(item, ids) for item in list(value)[:100]))
        return frozenset(found)
    text = text_of(value)
    if text is None:
        return frozenset()
    return frozenset(part for part, known in ids if text == known or text == _folded(known))


def text_of(value: object) -> str | None:
    """A value as an id is written; None for what no id can be."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return _folded(value)
    if isinstance(value, int | uuid.UUID):
        return str(value)
    if isinstance(value, bytes):
        return _folded(value.decode("utf-8", "replace"))
    return None


def _folded(text: str) -> str:
    # Applications take off spaces and capitals before they compare.
    return text.strip().casefold()
