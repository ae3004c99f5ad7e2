"""Pools of argument values: what a person would call values is drawn by Hypothesis."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_ssot_isolation.model.arguments import Drawn

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.program import Operation

POOL = 6
"""Values in the pool of one argument."""

BATCH = 10
"""Examples that Hypothesis draws at a time: each start of it costs as much as some examples."""

Pools: TypeAlias = Mapping[tuple[str, str], tuple[object, ...]]


def drawn_arguments(operations: Sequence[Mapping[str, Operation]]) -> dict[tuple[str, str], Any]:
    """The strategies of all operations, by operation and argument."""
    return {
        (name, argument): spec.strategy
        for of_user in operations
        for name, operation in of_user.items()
        for argument, spec in operation.arguments.items()
        if isinstance(spec, Drawn)
    }


def draw_pools(strategies: Mapping[tuple[str, str], Any], seed: int, count: int = BATCH) -> list[Pools]:
    """Draw pools of values.

    The check's own Hypothesis settings do not count here but for the verbosity: its deadline and health
    checks must never turn a leak into another error.

    Args:
        strategies: A strategy for each operation and argument.
        seed: Fixes what is drawn.
        count: How many sets of pools.

    Returns:
        Exactly ``count`` sets; the first is the simplest that there is.
    """
    if not strategies:
        return [{}] * count
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    names = list(strategies)
    drawn: list[Pools] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(st.tuples(*(st.lists(strategies[name], min_size=POOL, max_size=POOL) for name in names)))
    def collect(pools: tuple[list[object], ...]) -> None:
        drawn.append({name: tuple(pool) for name, pool in zip(names, pools, strict=True)})

    collect()
    # A strategy with few values ends early; its values serve again, in another order.
    shuffled = random.Random(seed)
    while len(drawn) < count:
        again = shuffled.choice(drawn)
        drawn.append({name: tuple(shuffled.sample(pool, len(pool))) for name, pool in again.items()})
    return drawn[:count]


def draw_ids(strategy: Any, seed: int, count: int, users: int) -> list[tuple[str, ...]]:
    """Draw sets of distinct ids from a strategy of strings.

    Raises:
        ValueError: The strategy gives something other than strings, or too few different ones.
    """
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st
    from hypothesis.errors import Unsatisfiable

    drawn: list[tuple[str, ...]] = []

    @seeded(seed)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(st.lists(strategy, min_size=users, max_size=users, unique=True))
    def collect(ids: list[object]) -> None:
        for each in ids:
            if not isinstance(each, str):
                raise ValueError(
                    f"The strategy for ids gives {each!r}, which is no string.\n"
                    "To fix this, map it: ids=strategy.map(str)."
                )
        drawn.append(tuple(str(each) for each in ids))

    try:
        collect()
    except Unsatisfiable as error:
        raise ValueError(
            f"The strategy for ids does not give {users} different ones.\n"
            "To fix this, widen it, or ask for fewer users."
        ) from error
    shuffled = random.Random(seed)
    while len(drawn) < count:
        drawn.append(shuffled.choice(drawn))
    return drawn[:count]
