"""What one check was asked to do, validated once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.model.verdict import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_ssot_isolation.model.program import Operation
    from pytest_ssot_isolation.surfaces.base import Surface

ORACLES = ("canary", "noninterference", "integrity", "availability", "residue", "aliasing")
DEFAULT = ORACLES[:-1]
COMPARING = frozenset({"noninterference", "integrity", "availability"})
_BLIND_TO_LEFTOVERS = COMPARING | {"canary"}

AFTER_FINDING = 0.2
"""Share of the budget that is spent on other findings after the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What one check was asked to do.

    Attributes:
        surfaces: Classes over which users are dealt.
        users: How many users act in an interleaved program.
        calls: The most calls in one program.
        examples: Exactly so many programs; None for a budget.
        most_examples: Programs after which the budget ends; None for time alone.
        seconds: Time after which the budget ends.
        oracles: Names of those that judge.
        faults: Kinds of faults that are drawn.
        ids: Kind of ids, or a strategy.
        boundary: ``"user"`` or ``"tenant"``.
        tenants: How many tenants, or which.
        stop_at_first: End at the first finding that fails the check.
        seed: Fixes everything that is drawn.
        fail_on: The least severity that fails.
        together: Every user makes one call, all at the same time: an ordinary test of several users.
        only_whether: Findings are neither made small nor replayed: it is asked only whether there is one.
    """

    surfaces: tuple[type[Surface[Any]], ...]
    operations: Mapping[type[Surface[Any]], Mapping[str, Operation]]
    users: int = 3
    calls: int = 24
    examples: int | None = None
    most_examples: int | None = 1000
    seconds: float = 10.0
    oracles: tuple[str, ...] = DEFAULT
    faults: tuple[str, ...] = ()
    ids: Any = "hostile"
    boundary: str = "user"
    tenants: int | tuple[str, ...] | None = None
    stop_at_first: bool = False
    seed: int = 0
    fail_on: Severity = Severity.LEAK
    together: bool = False
    only_whether: bool = False

    @property
    def compares(self) -> bool:
        """Whether an oracle is asked for that compares runs."""
        return bool(COMPARING & set(self.oracles)) and not self.together

    @property
    def only_compares(self) -> bool:
        """Whether every oracle that is asked for compares runs."""
        return self.compares and set(self.oracles) <= COMPARING

    @property
    def reads_leftovers(self) -> bool:
        """Whether an oracle is asked for that judges what users leave on connections; another plugin's may."""
        return not set(self.oracles) <= _BLIND_TO_LEFTOVERS

    @property
    def plants(self) -> bool:
        """Whether any operation carries a secret."""
        return any(op.plants for ops in self.operations.values() for op in ops.values())

    def fails_by(self, finding: Finding) -> bool:
        """Whether a finding is enough to fail the check."""
        return not finding.accepted and finding.weight >= self.fail_on

    def dealt(self, users: int) -> tuple[type[Surface[Any]], ...]:
        """The surfaces of so many users, dealt in turn."""
        return tuple(self.surfaces[index % len(self.surfaces)] for index in range(users))

    def of_users(self, surfaces: Sequence[type[Surface[Any]]]) -> list[Mapping[str, Operation]]:
        """The operations of each user."""
        return [self.operations[cls] for cls in surfaces]


class Budget:
    """How long a check goes on: examples or seconds, whichever end comes first.

    Args:
        ask: The check.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._began = time.monotonic()
        self._until = float("inf") if ask.examples is not None else self._began + ask.seconds
        self._most = ask.examples if ask.examples is not None else ask.most_examples

    @property
    def spent(self) -> float:
        """Seconds since the check began."""
        return time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds that are left; infinite where examples are counted."""
        return self._until - time.monotonic()

    def allows(self, examples: int) -> bool:
        """Whether another example may be run after so many."""
        if self._most is not None and examples >= self._most:
            return False
        return time.monotonic() < self._until

    def found(self) -> None:
        """After the first finding only a share of the budget is spent on others."""
        if self._ask.examples is None:
            rest = AFTER_FINDING * self._ask.seconds
            self._until = min(self._until, time.monotonic() + rest)

    def end(self) -> None:
        """No further example."""
        self._until = self._began

    def extend(self, seconds: float) -> None:
        """Time that was spent on something that the budget is not for, such as a reduction."""
        self._until += seconds

    def ended_early(self, examples: int) -> str:
        """A sentence where time ended the check before its examples were run; empty otherwise."""
        if self._ask.examples is None and self._most is not None and examples < self._most:
            return (
                f"the budget of {self._ask.seconds:g} s ended after {examples} of {self._most} programs; "
                "--ssot-profile=deep or --ssot-budget=SECONDS goes on for longer"
            )
        return ""
