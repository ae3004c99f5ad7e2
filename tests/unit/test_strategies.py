"""What authors write: arguments of operations, and user contexts for ``@given``."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import unicodedata
import uuid
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pytest_ssot_isolation.errors import IsolationError, SurfaceError
from pytest_ssot_isolation.generation.families import relatives
from pytest_ssot_isolation.generation.strategies import (
    context_sequences,
    contexts,
    hostile_ids,
    keys,
    observed,
    other_user,
    secrets,
)
from pytest_ssot_isolation.model.arguments import Drawn, Keys, Observed, OtherUser, Secrets
from pytest_ssot_isolation.model.context import UserExecutionContext

T = TypeVar("T")
STEADY = settings(
    max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def drawn(strategy: SearchStrategy[T]) -> list[T]:
    found: list[T] = []

    @settings(STEADY, phases=[Phase.generate])
    @given(strategy)
    def collect(value: T) -> None:
        found.append(value)

    collect()
    return found


def simplest(strategy: SearchStrategy[T], condition: Callable[[T], bool] = lambda _: True) -> T:
    return find(strategy, condition, settings=settings(STEADY, max_examples=3000))


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def test_arguments_are_frozen_specs() -> None:
    assert keys() == Keys()
    assert other_user() == OtherUser()
    assert observed("write") == Observed("write", None)
    assert observed("write", "items.0.id") == Observed("write", path="items.0.id")
    assert secrets() == Secrets(str, None, ())
    assert secrets(to="to_user", wrap="Dear {}", max_length=40) == Secrets(
        str, "to_user", (("max_length", 40), ("wrap", "Dear {}"))
    )
    spec: Any = secrets(int, bits=53)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.kind = str
    assert len({keys(), keys(), other_user(), observed("a"), secrets(), Drawn(st.none())}) == 5


@pytest.mark.parametrize(
    "kind", [str, bytes, int, uuid.UUID, Decimal, datetime, dict, "email", "url", "phone"]
)
def test_each_kind_of_secret_can_be_declared(kind: Any) -> None:
    assert secrets(kind).kind == kind


@pytest.mark.parametrize(
    ("declare", "problem"),
    [
        (lambda: secrets(float), "There is no secret of kind <class 'float'>"),
        (
            lambda: secrets(length=3),
            "secrets() knows no 'length'.\nTo fix this, use some of max_length, wrap",
        ),
        (lambda: secrets(bits=53), "A secret of kind str takes no bits"),
        (lambda: secrets(int, bits=7), "A secret of kind int cannot have bits=7"),
        (lambda: secrets(to=cast(Any, 3)), "secrets(to=3) does not name an argument"),
        (lambda: secrets(to="to user"), "secrets(to='to user') does not name an argument"),
        (lambda: observed(cast(Any, 3)), "observed(3) does not name an operation"),
        (lambda: observed("write a"), "observed('write a') does not name an operation"),
        (lambda: observed("write", ""), "observed('write', path=''): this is not a path"),
        (lambda: observed("write", "a..b"), "observed('write', path='a..b'): this is not a path"),
        (lambda: contexts("strange"), "contexts(ids='strange') is not a kind of ids"),
        (lambda: contexts(cast(Any, 7)), "contexts(ids=7) is not a kind of ids"),
        (lambda: contexts(tenants=0), "contexts(tenants=0) names no tenants"),
        (lambda: contexts(tenants="acme"), "contexts(tenants='acme') names no tenants"),
        (lambda: contexts(tenants=[]), "contexts(tenants=[]) names no tenants"),
        (
            lambda: context_sequences(0),
            "context_sequences(min_users=0, max_users=5) holds no number of users",
        ),
        (
            lambda: context_sequences(4, 3),
            "context_sequences(min_users=4, max_users=3) holds no number of users",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_where_it_is_written(declare: Any, problem: str) -> None:
    with pytest.raises(SurfaceError, match="^" + re.escape(problem)) as refused:
        declare()

    assert "\nTo fix this, " in str(refused.value)
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, IsolationError)


def test_declaring_arguments_does_not_load_hypothesis() -> None:
    asked = (
        "import sys; from pytest_ssot_isolation.generation import strategies as s; "
        "s.keys(), s.secrets(), s.observed('write'), s.other_user(); print('hypothesis' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True).stdout == "False\n"


def test_contexts_are_valid_and_always_have_a_tenant() -> None:
    for context in drawn(contexts()):
        assert isinstance(context, UserExecutionContext)
        assert context.tenant_id


def test_two_contexts_are_often_look_alikes() -> None:
    known = {relative.text for relative in relatives("alice")}

    pairs = drawn(st.tuples(contexts(), contexts()))

    alike = [
        (one, other)
        for one, other in pairs
        if {one.user_id, other.user_id} - known == {"alice"} and one != other
    ]
    assert len(alike) > 20
    assert any(folded(one.user_id) == folded(other.user_id) for one, other in alike)
    assert any(one.tenant_id == other.tenant_id for one, other in alike)


def test_some_tenants_and_users_have_a_boundary_that_moves() -> None:
    one, other = simplest(
        st.tuples(contexts(), contexts()),
        lambda two: two[0] != two[1] and len({f"{c.tenant_id}:{c.user_id}" for c in two}) == 1,
    )

    assert one.tenant_id != other.tenant_id


def test_the_same_user_has_the_same_context() -> None:
    everyone: dict[tuple[str | None, str], UserExecutionContext] = {}
    for context in drawn(contexts()):
        assert everyone.setdefault((context.tenant_id, context.user_id), context) == context


@pytest.mark.parametrize(
    ("ids", "valid"),
    [
        ("plain", str.isalpha),
        ("int", lambda text: 0 < int(text) < 2**31),
        ("uuid", lambda text: uuid.UUID(text).version == 4),
        (st.sampled_from(["x", "y"]), lambda text: text in "xy"),
    ],
    ids=["plain", "int", "uuid", "a strategy"],
)
def test_ids_are_of_the_kind_asked_for(ids: Any, valid: Callable[[str], bool]) -> None:
    texts = {context.user_id for context in drawn(contexts(ids))}

    assert len(texts) > 1
    assert all(valid(text) for text in texts)


def test_tenants_are_as_many_or_those_asked_for() -> None:
    assert len({context.tenant_id for context in drawn(contexts(tenants=3))}) == 3
    assert {context.tenant_id for context in drawn(contexts(tenants=["A", "B"]))} == {"A", "B"}
    assert len({context.tenant_id for context in drawn(contexts("plain", tenants=9))}) == 9


def test_a_tenant_that_is_no_id_is_refused_when_it_is_drawn() -> None:
    with pytest.raises(ValueError, match=r"^tenant_id must not be blank"):
        drawn(contexts(tenants=[" "]))


def test_hostile_ids_are_a_base_and_its_relatives() -> None:
    texts = set(drawn(hostile_ids()))
    known = {relative.text for relative in relatives("alice")}

    assert {"alice"} < texts <= known | {"alice"}
    assert len(texts) > 40


def test_everything_shrinks_to_plain_ids() -> None:
    assert simplest(hostile_ids()) == "alice"
    assert (simplest(contexts()).tenant_id, simplest(contexts()).user_id) == ("acme", "alice")
    assert [context.user_id for context in simplest(context_sequences())] == ["alice", "bob", "alice"]


def test_a_leak_by_letter_case_shrinks_to_two_users_who_differ_in_it() -> None:
    def leaks(turns: tuple[UserExecutionContext, ...]) -> bool:
        cache: dict[str, UserExecutionContext] = {}
        return any(cache.setdefault(user.user_id.lower(), user) != user for user in turns)

    turns = simplest(context_sequences(), leaks)

    assert len({user.user_id for user in turns}) == 2
    assert len({user.user_id.lower() for user in turns}) == 1
    assert len(turns) == 3


@pytest.mark.parametrize(("fewest", "most"), [(1, 1), (2, 5), (3, 3), (4, 12)])
def test_in_a_sequence_distinct_users_take_turns_with_one_context_each(fewest: int, most: int) -> None:
    for turns in drawn(context_sequences(fewest, most)):
        by_id = {user.user_id: user for user in turns}
        assert isinstance(turns, tuple)
        assert fewest <= len(by_id) <= most
        assert all(user is by_id[user.user_id] for user in turns)
        assert turns[0] is turns[-1]


def test_users_come_back_after_others_have_acted() -> None:
    def switches(turns: tuple[UserExecutionContext, ...]) -> int:
        return sum(one is not other for one, other in pairwise(turns))

    sequences = drawn(context_sequences())

    assert max(map(switches, sequences)) > 5
    assert all(switches(turns) >= 2 for turns in sequences)
