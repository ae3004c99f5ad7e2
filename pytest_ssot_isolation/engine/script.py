"""One example before it is run: who takes part, what they do, and the values they do it with."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.model.history import Principal, name_of
from pytest_ssot_isolation.model.program import Program

if TYPE_CHECKING:
    from pytest_ssot_isolation.engine.joined import JoinedPlan
    from pytest_ssot_isolation.generation.casts import CastPlan
    from pytest_ssot_isolation.model.cast import Cast
    from pytest_ssot_isolation.surfaces.base import Surface

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_LENGTH = 5
_NONCES = len(_LETTERS) ** _LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """When the calls of those who are left begin, where the others do not hold them up.

    Attributes:
        share: Of the virtual time that had passed before them beside the others.
        lag: Virtual seconds to wait longer.
        walk: Seed of a walk among their own tasks and the application's; None for the order beside the others.
        is_slow: Whether the walk lets the application's own tasks wait while they could go on.
        alongside: Whether the application's own tasks go on where they did between the steps of those who are left:
            ``"step"`` by step, or each time until they are at ``"rest"``; empty for neither.
    """

    share: float = 1.0
    lag: float = 0.0
    walk: str | None = None
    is_slow: bool = False
    alongside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One example before it is run.

    Attributes:
        number: Number of the example within the check.
        program: What everybody does.
        surfaces: Classes of the users' sessions, by index of the user.
        plan: How the ids and keys of a run are made.
        pools: Drawn values, by operation and argument.
        serial: Number within the check of the user with index 0; the others follow.
        values: Seed and place with which the pools are drawn again.
        more_values: The same of a second half of each pool, where two examples were joined.
    """

    number: int
    program: Program
    surfaces: tuple[type[Surface[Any]], ...]
    plan: CastPlan | JoinedPlan
    pools: Mapping[tuple[str, str], tuple[object, ...]] = field(default_factory=dict)
    serial: int = 0
    values: tuple[int, int] = (0, 0)
    more_values: tuple[int, int] | None = None

    def doing(self, program: Program) -> Script:
        """The same example with another program."""
        return replace(self, program=program)

    def member(self, index: int) -> int:
        """The number that a user keeps when others are dropped."""
        members = self.plan.members
        return members[index] if members is not None else index

    def index_of(self, member: int) -> int | None:
        """The index of the user with that number; None where that user was dropped."""
        members = self.plan.members if self.plan.members is not None else range(len(self.surfaces))
        return next((index for index, each in enumerate(members) if each == member), None)

    def principals(self, cast: Cast) -> tuple[Principal, ...]:
        """The users of a run, for its history."""
        return tuple(
            Principal(
                index=index,
                name=name_of(index),
                user_id=context.user_id,
                tenant_id=context.tenant_id or "",
                family=cast.families[index],
                surface=self.surfaces[index].__name__,
                serial=self.serial + index,
            )
            for index, context in enumerate(cast.contexts)
        )


class Nonces:
    """Letters that make the ids of each run of a check its own, in an order that the seed fixes.

    Args:
        seed: The seed of the check.
    """

    def __init__(self, seed: int) -> None:
        chosen = random.Random(f"nonce {seed}")
        self._next = chosen.randrange(_NONCES)
        # A step that has no divisor in common with the count of all comes back only after all of them:
        # none is given twice, and none need be remembered.
        self._step = chosen.randrange(1, _NONCES // len(_LETTERS)) * len(_LETTERS) + 1

    def fresh(self) -> str:
        """Five letters or digits that no run of this check had before."""
        self._next = (self._next + self._step) % _NONCES
        number, nonce = self._next, ""
        for _ in range(_LENGTH):
            number, place = divmod(number, len(_LETTERS))
            nonce += _LETTERS[place]
        return nonce
