"""Weakened guards, and what a check made of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

KILLED: Final = "killed"
SURVIVED: Final = "survived"
NOT_REACHED: Final = "not reached"
BROKEN: Final = "broken"
NOT_TRIED: Final = "not tried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One guard of the application that was weakened.

    Attributes:
        mutation: The name in ``mutate=``, such as ``"drop_where"``.
        place: Which guard, in words.
        outcome: ``"killed"`` (the check found a leak), ``"survived"``, ``"not reached"`` (the guard was never
            executed), ``"broken"`` (the application could not work at all) or ``"not tried"``.
        by: The oracle and the operation that told, for one that was killed.
        reason: Why it is broken or was not tried.
        examples: Programs that were run.
    """

    mutation: str
    place: str
    outcome: str
    by: str = ""
    reason: str = ""
    examples: int = 0

    @property
    def name(self) -> str:
        """Mutation and place."""
        return f"{self.mutation}: {self.place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutants:
    """Guards that were weakened to learn whether the check would notice.

    Attributes:
        mutants: Each of them.
        absent: Mutations that found no guard, and where they looked; a sentence each.
    """

    mutants: tuple[Mutant, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def killed(self) -> tuple[str, ...]:
        """Names of weakened guards that the check noticed."""
        return self.named(KILLED)

    @property
    def survived(self) -> tuple[str, ...]:
        """Names of weakened guards that it did not notice."""
        return self.named(SURVIVED)

    @property
    def score(self) -> float:
        """Share of the weakened guards that was noticed, 0 to 1; 0 where none was executed."""
        tried = len(self.killed) + len(self.survived)
        return len(self.killed) / tried if tried else 0.0

    def named(self, outcome: str) -> tuple[str, ...]:
        """Names of those that came to this."""
        return tuple(one.name for one in self.mutants if one.outcome == outcome)

    def to_plain(self) -> dict[str, Any]:
        """The mutants as dicts, lists, strings and numbers, with what follows from them."""
        return {
            **asdict(self),
            "killed": list(self.killed),
            "survived": list(self.survived),
            "score": round(self.score, 3),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Mutants:
        """The mutants that ``to_plain`` stands for."""
        return cls(
            mutants=tuple(Mutant(**one) for one in plain["mutants"]), absent=tuple(plain.get("absent", ()))
        )
