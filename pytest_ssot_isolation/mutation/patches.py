"""Attributes that are put in the place of others for a while, and taken away again in any case."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

_ABSENT: Any = object()


class Patches:
    """Puts attributes in place, and brings back what was there, the last first."""

    def __init__(self) -> None:
        self._undo = ExitStack()

    def __enter__(self) -> Patches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def put(self, owner: Any, name: str, value: object) -> None:
        """Set an attribute of a class, a module or an object."""
        # What a class inherits is not its own: there the attribute has to go again.
        before = vars(owner).get(name, _ABSENT) if hasattr(owner, "__dict__") else getattr(owner, name)
        setattr(owner, name, value)
        self._undo.callback(_bring_back, owner, name, before)

    def undo(self, action: Callable[[], object]) -> None:
        """Have something done when all is brought back."""
        self._undo.callback(action)


def _bring_back(owner: Any, name: str, before: object) -> None:
    if before is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, before)
