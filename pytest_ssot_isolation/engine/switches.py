"""An interleaving in words: who stopped where, and who went on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MOST = 12
"""Switches that are told; a reduced interleaving has one or two."""


def switches(sites: Sequence[tuple[int, str]], names: Mapping[int, str]) -> tuple[str, ...]:
    """Tell the switches between users.

    Args:
        sites: For each step who made it, and the place in the code from which it went on; an empty text
            for the first step of a task.
        names: Display names, by index of the user.

    Returns:
        A sentence for each switch, in their order.
    """
    told: list[str] = []
    steps = [(user, site) for user, site in sites if user in names]
    for place in range(1, len(steps)):
        user, goes_on = steps[place - 1][0], steps[place][0]
        if user == goes_on:
            continue
        later = next((site for other, site in steps[place:] if other == user), None)
        if later is None:
            stops = "goes no further"
        elif later:
            stops = f"stops at {later}"
        else:
            stops = "has ended a call"
        told.append(f"{names[user]} {stops}, and {names[goes_on]} goes on")
    if len(told) > MOST:
        told = [*told[:MOST], f"and {len(told) - MOST} more"]
    return tuple(told)
