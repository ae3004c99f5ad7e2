"""How long it takes to make and to bind a context: figures, printed with ``pytest -s``."""

from __future__ import annotations

import timeit
from collections.abc import Callable

import pytest

from pytest_ssot_isolation.model.context import UserExecutionContext, current_context

ALICE = UserExecutionContext("alice")


def bind_and_ask() -> None:
    with ALICE.bind():
        current_context()


@pytest.mark.parametrize(
    ("what", "act"),
    [
        ("a context", lambda: UserExecutionContext("alice")),
        (
            "a context with tenant and role",
            lambda: UserExecutionContext("alice", tenant_id="A", roles=("x",)),
        ),
        ("a child", ALICE.child),
        ("bind and ask", bind_and_ask),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_microseconds_for(what: str, act: Callable[[], object]) -> None:
    fastest = min(timeit.repeat(act, number=5000, repeat=9)) / 5000 * 1e6

    print(f"\n{what}: {fastest:.2f} microseconds (minimum of 9 repeats)")
    assert fastest > 0
