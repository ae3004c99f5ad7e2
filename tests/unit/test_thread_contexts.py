"""What context variables of a worker thread are told of."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pytest_ssot_isolation.engine.hygiene.thread_contexts import ThreadContexts


def told_of(*jobs: Callable[[], object]) -> list[str]:
    """Names of what jobs of different users meet, in one thread."""
    met: list[str] = []
    contexts = ThreadContexts()
    with ThreadPoolExecutor(1) as pool:
        for user, job in enumerate(jobs):
            looked_at = contexts.looked_at(job, (user, user), lambda name, *rest: met.append(name))
            pool.submit(looked_at).result()
    return met


def divide() -> None:
    decimal.Decimal(1) / 7


def divide_roughly() -> None:
    decimal.getcontext().prec = 4
    decimal.Decimal(1) / 7


def test_calculating_with_decimals_leaves_nothing_behind() -> None:
    assert told_of(divide, divide, divide) == []


def test_a_precision_that_one_user_chose_is_told() -> None:
    assert told_of(divide_roughly, divide) == ["decimal_context"]
