"""Text that holds a password: used as any text, shown without it."""

from __future__ import annotations

import re
from typing import Final

_PASSWORD_IN_URL: Final = re.compile(r"(://[^\s:/@]*:)\S*(@)")
_PASSWORD_IN_PAIR: Final = re.compile(r"(?i)(password\s*=\s*|password\s+(?='))('+(?:[^']|'')*'+|[^\s&;]+)")


class SecretText(str):
    """A DSN or a password whose ``repr`` is starred out: the report of a failed test shows its variables so."""

    __slots__ = ()

    def __repr__(self) -> str:
        # What is no DSN is a password.
        return repr(hide_passwords(str(self)) if "://" in self else "***")


def hide_passwords(text: str) -> str:
    """Return the text with what looks like a password in it starred out."""
    return _PASSWORD_IN_PAIR.sub(r"\1***", _PASSWORD_IN_URL.sub(r"\1***\2", text))


def compared(left: object, right: object) -> list[str] | None:
    """Return how a failed comparison of such texts is told, or None when neither is one."""
    if isinstance(left, SecretText) or isinstance(right, SecretText):
        return [f"{left!r} and {right!r} differ (passwords starred out)"]
    return None
