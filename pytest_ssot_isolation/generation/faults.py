"""Faults: which calls of a program are cut off, and at which of their awaits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pytest_ssot_isolation.model.program import Secret
from pytest_ssot_isolation.model.schedule import Fault

if TYPE_CHECKING:
    import random

    from pytest_ssot_isolation.model.program import Call, Program

FAULTY_SHARE = 0.9
"""Share of programs with faults, where the check allows any."""

MANY = (0.0, 0.33, 0.4, 0.5, 0.6)
"""Shares of the struck users' calls that are cut off, one of which holds for a program; always one call.

Most leaks by a call that was cut off need one cut at the right await, and others' calls after it: the more, the better;
a single cut is left to those that need an undisturbed rest.
"""

PLANTING = 0.5
"""How likely a call that plants something is cut off beside another: what never came in can show nowhere."""


def draw(
    random: random.Random, program: Program, kinds: Sequence[str], awaits: Callable[[str], int]
) -> list[Fault]:
    """Draw faults for some of the users; somebody is spared, and may compare.

    Each await of a call is as likely as any other: a call that never waits cannot be cut off, and one that
    waits often is cut off most.

    Args:
        random: Fixes all choices.
        program: Whose calls are struck.
        kinds: Of faults.
        awaits: Gives for an operation how often a call of it was seen to wait.

    Returns:
        The faults, at most one for each call.
    """
    if not kinds or random.random() >= FAULTY_SHARE:
        return []
    users = program.users
    struck = random.sample(users, k=random.randint(1, max(1, len(users) - 1)))
    calls = [call for call in program.calls if call.user in struck]
    waits = {call.id: awaits(call.operation) for call in calls}
    most = max(1, round(random.choice(MANY) * len(calls)))
    faults = []
    for _ in range(most):
        left = [call for call in calls if waits[call.id]]
        if not left:
            break
        (call,) = random.choices(left, [waits[call.id] * (PLANTING if _plants(call) else 1) for call in left])
        faults.append(Fault(call.id, random.choice(kinds), random.randint(1, waits[call.id])))
        waits[call.id] = 0
    return sorted(faults, key=lambda fault: fault.call)


def _plants(call: Call) -> bool:
    return any(type(form) is Secret for _, form in call.arguments)
