"""Bad input: what, why, and how to mend it; and nothing is left behind."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from pytest_ssot_isolation import MutationUnusable, Surface, SurfaceError, keys, observed, operation, secrets


def says(error: pytest.ExceptionInfo[BaseException], *parts: str) -> None:
    for part in parts:
        assert part in str(error.value)
    assert "To fix this" in str(error.value)


def test_an_operation_with_an_unknown_argument() -> None:
    with pytest.raises(SurfaceError) as error:

        class Bad(Surface[None]):
            @operation(titel=keys())
            async def read(self, title: str = "") -> None: ...

    says(error, "Bad.read has no argument 'titel'", "rename it to one of: title")


def test_an_operation_with_an_undeclared_argument() -> None:
    with pytest.raises(SurfaceError) as error:

        class Bad(Surface[None]):
            @operation(title=keys())
            async def read(self, title: str, page: int) -> None: ...

    says(error, "Bad.read needs an argument 'page'", "@operation(page=keys())", "give it a default")


def test_an_argument_declared_twice() -> None:
    with pytest.raises(SurfaceError) as error:

        class Bad(Surface[None]):
            @operation({"title": keys()}, title=keys())
            async def read(self, title: str) -> None: ...

    says(error, "'title' is declared twice", "keep one of the two")


def test_an_argument_named_like_an_option_goes_into_the_mapping() -> None:
    class Good(Surface[None]):
        @operation({"weight": keys()}, weight=3)
        async def weigh(self, weight: str) -> None: ...

    assert Good._operations["weigh"].weight == 3
    assert list(Good._operations["weigh"].arguments) == ["weight"]


def test_a_declaration_that_is_no_strategy() -> None:
    with pytest.raises(SurfaceError) as error:
        operation(title=str)

    says(error, "'title' is declared with <class 'str'>", "hypothesis.strategies.just")


def test_a_secret_addressed_to_something_that_is_no_user() -> None:
    with pytest.raises(SurfaceError) as error:

        class Bad(Surface[None]):
            @operation(to=keys(), text=secrets(to="to"))
            async def send(self, to: str, text: str) -> None: ...

    says(error, "Bad.send: the secret 'text' is addressed to 'to'", "other_user()")


def test_sql_that_cannot_be_read_for_want_of_a_library_is_told_with_the_extra(
    harness: Any, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    with pytest.raises(MutationUnusable) as error:
        harness().check(notes, world=dict, mutate="drop_where")

    says(error, "sqlglot", 'pip install "pytest-ssot-isolation[mutate]"')


def test_a_guard_that_no_version_knows_is_told_by_its_name(harness: Any, notes: Any) -> None:
    with pytest.raises(SurfaceError, match="mutate: 'drop_it' is not known"):
        harness().check(notes, world=dict, mutate=("drop_it",))


def test_a_surface_without_operations(harness: Any) -> None:
    class Empty(Surface[None]):
        pass

    with pytest.raises(SurfaceError) as error:
        harness().check(Empty, world=dict)

    says(error, "The surface", "Empty has no operations", "@operation(...)")


def test_something_that_is_no_surface(harness: Any) -> None:
    with pytest.raises(SurfaceError) as error:
        harness().check(dict, world=dict)

    says(error, "<class 'dict'> is not a Surface class", "pass the class itself")


def test_a_reference_to_an_operation_that_is_not_there(harness: Any) -> None:
    class Dangling(Surface[None]):
        @operation(note=observed("write"))
        async def read(self, note: int) -> None: ...

    with pytest.raises(SurfaceError) as error:
        harness().check(Dangling, world=dict)

    says(error, "observed('write')", "has no such operation", "name one of: read")


def test_a_world_that_raises(harness: Any, notes: Any) -> None:
    def broken() -> None:
        raise ConnectionError("nobody listens on port 1")

    with pytest.raises(SurfaceError) as error:
        harness().check(notes, world=broken)

    says(error, "The world could not be made", "broken raised ConnectionError: nobody listens on port 1")


def test_a_sign_in_that_raises(harness: Any, notes: Any, app: Any) -> None:
    class Locked(notes):  # type: ignore[misc]
        async def open(self) -> None:
            raise PermissionError("no such user")

    with pytest.raises(SurfaceError) as error:
        harness().check(Locked, world=app)

    says(error, "Locked.open() could not sign the user", "PermissionError: no such user", "raise Refused")


def test_a_reset_that_raises(harness: Any, notes: Any, app: Any) -> None:
    def broken(world: object) -> None:
        raise OSError("disk full")

    with pytest.raises(SurfaceError) as error:
        harness().check(notes, world=app, reset=broken)

    says(error, "The state could not be reset", "OSError: disk full")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"users": 1}, "users=1 cannot be used"),
        ({"users": 1001}, "whole number from 2 to 1,000"),
        ({"calls": 0}, "calls=0 cannot be used"),
        ({"examples": 0}, "examples=0 cannot be used"),
        ({"oracles": ["canarry"]}, "oracles: 'canarry' is not known"),
        ({"oracles": []}, "oracles names none, so nobody would judge"),
        ({"faults": "explode"}, "faults: 'explode' is not known"),
        ({"ids": "nasty"}, "ids='nasty' is not a kind of ids"),
        ({"boundary": "team"}, "boundary='team' cannot be used"),
        ({"world_scope": "session"}, "world_scope='session' cannot be used"),
        ({"tenants": 0}, "tenants=0 cannot be used"),
        ({"seed": -1}, "seed=-1 cannot be used"),
    ],
)
def test_a_parameter_that_cannot_be_used(
    harness: Any, notes: Any, app: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SurfaceError) as error:
        harness().check(notes, world=app, **options)

    says(error, said)


def test_after_a_failing_check_no_loop_task_or_thread_is_left(harness: Any, notes: Any, app: Any) -> None:
    before = threading.active_count()

    def broken() -> None:
        raise ValueError("no")

    for world in (broken, lambda: app("key forgets the user")):
        with pytest.raises(Exception, match=r"world|alice"):
            harness().check(notes, world=world, examples=10)

    assert threading.active_count() == before
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
