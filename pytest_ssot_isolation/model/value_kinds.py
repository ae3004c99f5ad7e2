"""Kinds of values that other plugins add to those which canaries know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ValueKind:
    """How a secret becomes a valid value of some kind of field.

    Attributes:
        name: What ``secrets(...)`` and ``canaries.mint(..., kind)`` call it.
        make: Given the secret, 18 lower-case letters and digits, returns the value; the secret must stand in it in
            one piece, plain or in an encoding that is looked through, or nobody will find it again.
    """

    name: str
    make: Callable[[str], object]


ADDED: dict[str, ValueKind] = {}
"""Those of this pytest run, by name: surfaces name them when their module is imported, before any check."""
