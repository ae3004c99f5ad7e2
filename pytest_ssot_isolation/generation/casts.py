"""Casts: the users and keys of a run, made anew with other letters for each."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.generation import hostile
from pytest_ssot_isolation.generation.users import Identity, Tenants, housed
from pytest_ssot_isolation.model.cast import Cast
from pytest_ssot_isolation.model.context import UserExecutionContext

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYS = 6
SWEEP_KEYS = 56


@dataclass(frozen=True, slots=True, kw_only=True)
class CastPlan:
    """How the cast of an example is made; with another nonce, the same family under other names.

    Attributes:
        ids: ``"hostile"``, ``"plain"``, ``"int"``, ``"uuid"``, or ``"given"``.
        seed: Fixes all choices.
        count: How many users.
        tenants: See ``Tenants``.
        argument_names: Names of the arguments that take keys.
        refused: Families that the application does not accept.
        is_sweep: Whether all users are relatives of one base.
        vary: In a sweep, what the relatives are: ``"user"`` or ``"tenant"``.
        given: Ids to take as they are, where ``ids`` is ``"given"``.
        members: Indices of those who take part; all by default. The others are drawn too, so that
            ids stay the same when users are dropped.
    """

    ids: str = "hostile"
    seed: int = 0
    count: int = 3
    tenants: int | tuple[str, ...] | None = None
    argument_names: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    is_sweep: bool = False
    vary: str = "user"
    given: tuple[str, ...] = ()
    members: tuple[int, ...] | None = None

    def cast(self, nonce: str) -> Cast:
        """The users and keys for these letters.

        Args:
            nonce: 4 to 6 lower-case letters and digits.
        """
        rng = random.Random(f"cast {self.seed}")
        people = self._people(rng, nonce)
        keys = hostile.key_pool(
            rng, people, size=SWEEP_KEYS if self.is_sweep else KEYS, argument_names=self.argument_names
        )
        if self.members is not None:
            people = [people[index] for index in self.members]
        contexts = tuple(UserExecutionContext(each.user_id, tenant_id=each.tenant_id) for each in people)
        return Cast(contexts, tuple(each.family for each in people), keys)

    def _people(self, rng: random.Random, nonce: str) -> list[Identity]:
        tenants: Tenants = self.tenants
        if self.ids == "given":
            people = [Identity(f"{nonce}t", text, "given") for text in self.given]
            homes = [f"{nonce}t{n}" for n in range(tenants)] if isinstance(tenants, int) else tenants
            return housed(people, homes)
        if self.is_sweep and self.ids == "hostile":
            return hostile.sweep(
                rng, nonce, self.count, tenants=tenants, argument_names=self.argument_names,
                refused=self.refused, vary="tenant" if self.vary == "tenant" else "user",
            )  # fmt: skip
        return hostile.deal(
            self.ids, rng, nonce, self.count, tenants=tenants, argument_names=self.argument_names,
            refused=self.refused,
        )  # fmt: skip

    def to_plain(self) -> dict[str, Any]:
        """The plan as dicts, lists, strings and numbers; what is as by default is left out."""
        blank = asdict(CastPlan())
        return {name: value for name, value in asdict(self).items() if value != blank[name]}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> CastPlan:
        """The plan that ``to_plain`` or its JSON stands for."""
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in plain.items()}
        return cls(**values)
