"""What makes two ids look alike, in words, and ids written so that the difference can be seen."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote

SEPARATORS = ":/|%,;.-_ \\#@"


def spelled(text: str) -> str:
    """An id in quotes; whatever is not plain ASCII is written as its escape."""
    return ascii(text)


def difference(one: str, other: str) -> str:
    """Say how two ids differ that a careless application may take for one.

    Args:
        one: An id.
        other: Another one.

    Returns:
        A clause such as ``"they differ in upper and lower case only"``; empty where they do not look alike.
    """
    if one == other:
        return "they are the same"
    if one.strip() == other.strip():
        return "they differ in white space at an end only"
    if one.lower() == other.lower() and all(
        a.lower() == b.lower() and a.isascii() == b.isascii() for a, b in zip(one, other, strict=False)
    ):
        return "they differ in upper and lower case only"
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return "they look the same, and are composed of other Unicode characters (NFC makes them one)"
    if _plain(one) == _plain(other):
        return "Unicode compatibility forms and case folding (NFKC) make them one"
    if "".join(one.split()) == "".join(other.split()):
        return "they differ in white space only"
    if _visible(one) == _visible(other):
        return "they differ in characters that cannot be seen"
    if unquote(one) == unquote(other):
        return "they are the same once percent signs are decoded"
    if _words(one) == _words(other):
        return "they differ in separators only"
    if _numbers(one) is not None and _numbers(one) == _numbers(other):
        return "they are the same number"
    shorter, longer = sorted((one, other), key=len)
    if longer.startswith(shorter):
        return "one begins with the other"
    if longer.endswith(shorter):
        return "one ends with the other"
    return ""


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _visible(text: str) -> str:
    return "".join(character for character in text if character.isprintable())


def _words(text: str) -> str:
    return "".join(" " if character in SEPARATORS else character for character in text)


def _numbers(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
