"""The texts of refusals, in one place so that they can be translated."""

from __future__ import annotations

_TEXTS = {
    "colour": "a note is white, yellow or green, not {}",
    "title": "a title has 1 to 120 characters, not {}",
    "pattern": "the pattern is not a regular expression: {}",
}


class Problems:
    """Words for what is wrong with a request."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def text(self, kind: str, detail: str) -> str:
        """Return the sentence for one kind of problem; each is made once."""
        return self._texts.setdefault(kind, _TEXTS[kind].format(detail))
