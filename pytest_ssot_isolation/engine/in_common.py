"""Compares, at the end of a run, the objects that the surfaces of its users reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.model.history import InCommon
from pytest_ssot_isolation.oracles.aliasing import Baseline, shared_among

if TYPE_CHECKING:
    from pytest_ssot_isolation.surfaces.base import Surface

GIVEN = ("world", "user", "_tell", "_plant", "_spot")
"""What the harness itself gave to each surface."""


def held_in_common(surfaces: Mapping[int, Surface[Any]], before: Baseline) -> list[InCommon]:
    """Find the mutable objects that several users reach, and that the world did not have at the start.

    Args:
        surfaces: Of each user, by index.
        before: What the world reached before anybody acted.
    """
    users = sorted(surfaces)
    roots = [
        {name: value for name, value in vars(surfaces[user]).items() if name not in GIVEN} for user in users
    ]
    overlap = shared_among(roots, before)
    return [
        InCommon(
            kind=shared.kind,
            users=tuple(users[holder] for holder in shared.holders),
            path=shared.paths[0].removeprefix("dict"),
        )
        for shared in overlap.shared
    ]
