"""Who acts: the one definition of a user's context, made anew for every signed-in request."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

LONGEST_ID = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_PLACEHOLDERS = frozenset({"none", "null", "undefined", "nil"})


def _fresh_id() -> str:
    return os.urandom(16).hex()


def _check(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, not {type(value).__name__}")
    if not value or value.isspace():
        raise ValueError(f"{name} is empty")
    if len(value) > LONGEST_ID:
        raise ValueError(f"{name} has {len(value)} characters; at most {LONGEST_ID} are allowed")
    if not value.isprintable() and _CONTROL.search(value):
        raise ValueError(f"{name} holds a control character")
    if len(value) <= 9 and value.casefold() in _PLACEHOLDERS:
        raise ValueError(f"{name} is a placeholder: {value!r}")


@dataclass(frozen=True, slots=True)
class UserExecutionContext:
    """One user, for the time of one request.

    Attributes:
        user_id: The person; unique over the whole service.
        tenant_id: The organisation the person acts for; empty for a person without one.
        thread_id: The conversation this request belongs to; fresh when left out.
        run_id: The run of work; fresh when left out.
        request_id: This request; fresh when left out.

    Raises:
        ValueError: An id is not a string, blank, too long, a placeholder, or holds a control character.
    """

    user_id: str
    tenant_id: str = ""
    thread_id: str = field(default_factory=_fresh_id)
    run_id: str = field(default_factory=_fresh_id)
    request_id: str = field(default_factory=_fresh_id)

    def __post_init__(self) -> None:
        _check("user_id", self.user_id)
        if self.tenant_id != "":
            _check("tenant_id", self.tenant_id)

    @property
    def key(self) -> tuple[str, str]:
        """The key of everything kept in memory for this user: a pair, since joined ids can collide."""
        return (self.tenant_id, self.user_id)


def require(context: object) -> UserExecutionContext:
    """Return the context, or raise ``ValueError`` where there is none: nobody is a default."""
    if not isinstance(context, UserExecutionContext):
        raise ValueError(f"a UserExecutionContext is needed, not {type(context).__name__}")
    return context
