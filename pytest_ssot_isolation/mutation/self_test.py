"""The self-test: guards weakened one at a time, and a short check for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final

from pytest_ssot_isolation.errors import IsolationError
from pytest_ssot_isolation.model.mutants import (
    BROKEN,
    KILLED,
    NOT_REACHED,
    NOT_TRIED,
    SURVIVED,
    Mutant,
    Mutants,
)
from pytest_ssot_isolation.mutation.guards import Guard, Mutation, Reach, Stage

MOST: Final = 24
"""Guards that are weakened in one check; the others are named as not tried."""

LEAST_SECONDS: Final = 0.5
"""Seconds that the check of one weakened guard may always take."""

UNREACHED: Final = 40
"""Programs after which a guard that was not executed is given up."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a short check of a weakened application came to.

    Attributes:
        by: The oracle and the operation that told of a leak; empty without one.
        trouble: Why the application could not be checked; empty where it could.
        examples: Programs that were run.
    """

    by: str = ""
    trouble: str = ""
    examples: int = 0


@dataclass(slots=True)
class SelfTest:
    """The mutations of one check.

    Attributes:
        stage: What they know of the runs.
        mutations: Those that were asked for, by name.
    """

    stage: Stage
    mutations: Mapping[str, Mutation] = field(default_factory=dict)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Look for guards while the check itself runs."""
        with ExitStack() as stack:
            for mutation in self.mutations.values():
                stack.enter_context(mutation.recording())
            yield

    def run(self, attempt: Callable[[float, Reach], Trial], seconds: float) -> Mutants:
        """Weaken one guard after another.

        Args:
            attempt: Checks the application for so many seconds, and may end early what was not reached.
            seconds: Time for all of them together; each has at least half a second.
        """
        until = time.monotonic() + seconds
        found = {name: list(mutation.found()) for name, mutation in self.mutations.items()}
        in_turn = list(_in_turn(found))
        mutants = []
        for place, (name, guard) in enumerate(in_turn[:MOST]):
            left = (until - time.monotonic()) / (min(len(in_turn), MOST) - place)
            mutants.append(_tried(name, guard, attempt, max(LEAST_SECONDS, left)))
        mutants += [
            Mutant(
                mutation=name,
                place=guard.place,
                outcome=NOT_TRIED,
                reason=f"at most {MOST} are tried in one check",
            )
            for name, guard in in_turn[MOST:]
        ]
        return Mutants(
            mutants=tuple(sorted(mutants, key=lambda one: list(self.mutations).index(one.mutation))),
            absent=tuple(
                f"{name}: {self.mutations[name].absent()}" for name, guards in found.items() if not guards
            ),
        )


def _tried(name: str, guard: Guard, attempt: Callable[[float, Reach], Trial], seconds: float) -> Mutant:
    trial, reached = Trial(), 0
    if guard.is_idle:
        return Mutant(mutation=name, place=guard.place, outcome=NOT_REACHED)
    try:
        with guard.weakened() as reach:
            trial = attempt(seconds, reach)
            reached = reach.count
    except IsolationError as error:
        trial = Trial(trouble=str(error).partition("\n")[0])
        reached = max(reached, 1)
    if trial.by:
        outcome = KILLED
    elif trial.trouble:
        outcome = BROKEN
    else:
        outcome = SURVIVED if reached else NOT_REACHED
    return Mutant(
        mutation=name,
        place=guard.place,
        outcome=outcome,
        by=trial.by,
        reason=trial.trouble if outcome == BROKEN else "",
        examples=trial.examples,
    )


def _in_turn(found: Mapping[str, Sequence[Guard]]) -> Iterable[tuple[str, Guard]]:
    """One guard of each mutation after another, so that a bound leaves none of the names out."""
    columns = [[(name, guard) for guard in guards] for name, guards in found.items()]
    for row in zip_longest(*columns):
        yield from (each for each in row if each is not None)


def prepare(names: Sequence[str], databases: Sequence[Any], packages: Sequence[str]) -> SelfTest:
    """Put together the mutations that were asked for.

    Args:
        names: Their names.
        databases: The databases of the test, of any kind.
        packages: Installed packages that count as the application's.

    Raises:
        MutationUnusable: What one of them needs is not installed.
    """
    from pytest_ssot_isolation.mutation.caches import CacheKey
    from pytest_ssot_isolation.mutation.row_security import ForceRls
    from pytest_ssot_isolation.mutation.sql import DropWhere, SetLocal
    from pytest_ssot_isolation.mutation.statements import require_sqlglot
    from pytest_ssot_isolation.mutation.variables import ContextVarReset

    if {"drop_where", "set_local"} & set(names):
        require_sqlglot()
    stage = Stage()
    askable = [one for one in databases if hasattr(one, "ask")]
    ways: dict[str, Callable[[], Mutation]] = {
        "drop_where": lambda: DropWhere(stage),
        "set_local": lambda: SetLocal(stage),
        "force_rls": lambda: ForceRls(stage, askable),
        "cache_key": lambda: CacheKey(stage),
        "contextvar_reset": lambda: ContextVarReset(tuple(packages)),
    }
    return SelfTest(stage, {name: ways[name]() for name in names})
