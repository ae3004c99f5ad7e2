"""The user's execution context: what is refused, what is made fresh, and whose code runs."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import dataclasses
import gc
import pickle
import re
import threading
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pytest_ssot_isolation.errors import InvalidContext, IsolationError, MissingContext
from pytest_ssot_isolation.model.context import CURRENT, UserExecutionContext, current_context

FIELDS = ("user_id", "tenant_id", "thread_id", "run_id", "request_id")


def made_with(field: str, value: Any) -> UserExecutionContext:
    if field == "user_id":
        return UserExecutionContext(value)
    return UserExecutionContext("alice", **{field: value})


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (7, "must be a string, not int: 7."),
        (b"alice", "must be a string, not bytes: b'alice'."),
        ("", "must not be empty: ''."),
        (" \u00a0\u3000", "must not be blank: ' \\xa0\\u3000'."),
        ("a" * 256, f"must have at most 255 characters, not 256: '{'a' * 60}'... (256 characters)."),
        ("ali\tce", "must not hold a control character (U+0009 at 3): 'ali\\tce'."),
        ("alice\x00", "must not hold a control character (U+0000 at 5): 'alice\\x00'."),
        ("\x7falice", "must not hold a control character (U+007F at 0): '\\x7falice'."),
        ("alice\x9f", "must not hold a control character (U+009F at 5): 'alice\\x9f'."),
        ("None", "must not be a placeholder for a missing value: 'None'."),
        ("NULL", "must not be a placeholder for a missing value: 'NULL'."),
        ("undefined", "must not be a placeholder for a missing value: 'undefined'."),
        (" Nil ", "must not be a placeholder for a missing value: ' Nil '."),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_an_unfit_id_is_refused_with_the_field_and_the_value(field: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidContext) as refused:
        made_with(field, value)

    assert str(refused.value) == (
        f"{field} {problem}\n"
        f"To fix this, pass the {field} that the request came with, and refuse a request without one."
    )


@pytest.mark.parametrize("field", [field for field in FIELDS if field != "tenant_id"])
def test_none_is_no_id(field: str) -> None:
    with pytest.raises(InvalidContext, match=f"^{field} must be a string, not NoneType: None"):
        made_with(field, None)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "value", ["a", "a" * 255, "nobody", "nullius", " a", "José", "\u0667", "a\u200bb", "😀"]
)
def test_an_odd_but_lawful_id_is_kept_as_it_is(field: str, value: str) -> None:
    assert getattr(made_with(field, value), field) == value


def test_both_errors_are_value_errors_and_our_own() -> None:
    for error in (InvalidContext, MissingContext):
        assert issubclass(error, ValueError)
        assert issubclass(error, IsolationError)


def test_a_value_that_cannot_be_shown_does_not_hide_what_is_wrong_with_it() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(InvalidContext, match="must be a string, not Silent: <"):
        made_with("user_id", Silent())


def test_ids_left_out_are_made_fresh_and_valid() -> None:
    many = [UserExecutionContext("alice") for _ in range(200)]

    for field in ("thread_id", "run_id", "request_id"):
        assert len({getattr(context, field) for context in many}) == 200
        assert made_with(field, getattr(many[0], field))
    assert many[0].tenant_id is None
    assert many[0].roles == ()
    assert many[0].parent is None


def test_equal_fields_make_equal_contexts() -> None:
    def made() -> UserExecutionContext:
        return UserExecutionContext(
            "alice", tenant_id="A", thread_id="t", run_id="r", request_id="q", roles=["x", "y"]
        )

    assert made() == made()
    assert hash(made()) == hash(made())
    assert UserExecutionContext("alice") != UserExecutionContext("alice")


def test_a_context_cannot_be_changed() -> None:
    context: Any = UserExecutionContext("alice")

    with pytest.raises(dataclasses.FrozenInstanceError):
        context.user_id = "bob"
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError, AttributeError)):
        context.anything = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        del context.user_id
    assert not hasattr(context, "__dict__")


def test_a_changed_copy_is_validated_again() -> None:
    context = UserExecutionContext("alice", tenant_id="A")

    assert dataclasses.replace(context, tenant_id="B").request_id == context.request_id
    with pytest.raises(InvalidContext, match=r"^user_id must not be empty"):
        dataclasses.replace(context, user_id="")


def test_a_context_survives_copying_and_pickling_with_its_parent() -> None:
    context = UserExecutionContext("alice", tenant_id="A", roles=("admin",)).child()

    for again in (copy.deepcopy(context), pickle.loads(pickle.dumps(context))):
        assert again == context
        assert again.parent == context.parent


@pytest.mark.parametrize(
    ("given", "kept"),
    [(["b", "a"], ("b", "a")), ({"b", "a"}, ("a", "b")), (("a",), ("a",)), (iter(["a"]), ("a",)), ([], ())],
)
def test_roles_become_a_tuple_in_a_fixed_order(given: Any, kept: tuple[str, ...]) -> None:
    assert UserExecutionContext("alice", roles=given).roles == kept


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("admin", "roles must be a collection of strings, not str: 'admin'."),
        ("", "roles must be a collection of strings, not str: ''."),
        (None, "roles must be a collection of strings, not NoneType: None."),
        (["admin", 7], "roles must be a string, not int: 7."),
        (["null"], "roles must not be a placeholder for a missing value: 'null'."),
    ],
)
def test_unfit_roles_are_refused(given: Any, problem: str) -> None:
    with pytest.raises(InvalidContext, match="^" + re.escape(problem)):
        UserExecutionContext("alice", roles=given)


def test_a_child_is_a_new_request_of_the_same_user() -> None:
    context = UserExecutionContext("alice", tenant_id="A", roles=("admin",))

    child = context.child()

    assert child.parent is context
    assert child.request_id != context.request_id
    assert dataclasses.replace(child, request_id=context.request_id) == context


def test_a_parent_must_be_a_context() -> None:
    with pytest.raises(InvalidContext, match=r"^parent must be a UserExecutionContext, not str: 'alice'"):
        UserExecutionContext("alice", parent="alice")  # type: ignore[arg-type]


def test_a_long_line_of_requests_can_be_compared_shown_and_hashed() -> None:
    context = UserExecutionContext("alice")
    for _ in range(5000):
        context = context.child()

    assert hash(context) == hash(copy.copy(context))
    assert context == copy.copy(context)
    assert len(repr(context)) < 400


def test_a_context_is_freed_when_it_is_dropped() -> None:
    context = UserExecutionContext("alice")
    alive = weakref.ref(context)
    with context.bind():
        pass

    del context
    gc.collect()

    assert alive() is None


def test_without_a_bound_context_there_is_no_default_user() -> None:
    with pytest.raises(MissingContext) as missing:
        contextvars.Context().run(current_context)

    assert str(missing.value).startswith(
        "No user context is current here, and there is never a default user.\n"
    )
    assert "with context.bind():" in str(missing.value)


def test_a_bound_context_is_current_until_the_block_ends() -> None:
    alice, bob = UserExecutionContext("alice"), UserExecutionContext("bob")

    with alice.bind() as bound:
        assert bound is alice
        with bob.bind():
            assert current_context() is bob
        assert current_context() is alice
        with pytest.raises(KeyError), bob.bind():
            raise KeyError
        assert current_context() is alice
    assert CURRENT.get() is None


@pytest.mark.asyncio
async def test_child_tasks_and_worker_threads_inherit_the_context_and_neighbours_do_not_meet() -> None:
    async def act(user: str) -> set[str]:
        async with UserExecutionContext(user).bind():
            await asyncio.sleep(0)
            seen = {current_context().user_id, await asyncio.to_thread(lambda: current_context().user_id)}

            async def inner() -> str:
                await asyncio.sleep(0)
                return current_context().user_id

            return seen | set(await asyncio.gather(inner(), asyncio.create_task(inner())))

    assert await asyncio.gather(*(act(user) for user in "abcd")) == [{"a"}, {"b"}, {"c"}, {"d"}]
    assert CURRENT.get() is None


def test_a_thread_of_ones_own_has_no_user() -> None:
    seen: list[UserExecutionContext | None] = []
    with UserExecutionContext("alice").bind():
        thread = threading.Thread(target=lambda: seen.append(CURRENT.get()))
        # An empty context, since newer interpreters can be told to hand the starter's on.
        contextvars.Context().run(thread.start)
        thread.join()

    assert seen == [None]


def test_a_binding_in_use_cannot_be_entered_again() -> None:
    binding = UserExecutionContext("alice").bind()

    with binding, pytest.raises(IsolationError, match="binding of user 'alice' is in use already"):
        binding.__enter__()
    with binding:
        assert current_context().user_id == "alice"
    assert CURRENT.get() is None


@pytest.mark.asyncio
async def test_a_generator_closed_by_another_task_leaves_nobody_behind() -> None:
    async def session(context: UserExecutionContext) -> AsyncIterator[None]:
        with context.bind():
            yield

    opened = session(UserExecutionContext("alice"))
    await asyncio.create_task(anext(opened))  # type: ignore[arg-type]

    async def close() -> UserExecutionContext | None:
        await opened.aclose()  # type: ignore[attr-defined]
        return CURRENT.get()

    assert await asyncio.create_task(close()) is None


@pytest.mark.asyncio
async def test_a_task_that_copied_the_user_and_closes_the_session_no_longer_acts_for_that_user() -> None:
    alice, bob = UserExecutionContext("alice"), UserExecutionContext("bob")
    with bob.bind():
        binding = alice.bind()
        binding.__enter__()

        async def close() -> UserExecutionContext | None:
            binding.__exit__(None, None, None)
            return CURRENT.get()

        assert await asyncio.create_task(close()) is bob
        assert current_context() is alice
        CURRENT.set(bob)
