"""Who takes part in one run, with the ids and keys of that run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.context import UserExecutionContext


@dataclass(frozen=True, slots=True)
class Cast:
    """Who takes part in one run.

    Attributes:
        contexts: The users' contexts, by index.
        families: What makes each user's ids look alike, by index.
        keys: The pool of keys that all users share.
    """

    contexts: tuple[UserExecutionContext, ...]
    families: tuple[str, ...]
    keys: tuple[str, ...]
