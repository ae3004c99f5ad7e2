"""``loop="pytest-asyncio"`` on a marker: that test and its fixtures live in a gate loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import pytest

IN_LOOP_OF_FIXTURES: Final = "pytest-asyncio"
MARKS: Final = ("concurrency", "isolation")


def asks(node: Any) -> bool:
    """Whether a test asks for the gate loop under its fixtures.

    Raises:
        pytest.UsageError: It asks for another loop, or pytest-asyncio cannot be given one.
    """
    said = [
        marker.kwargs["loop"]
        for name in MARKS
        for marker in node.iter_markers(name)
        if "loop" in marker.kwargs
    ]
    return bool(said) and is_wanted(said[0], node.config, node.nodeid)


def is_wanted(loop: object, config: pytest.Config, place: str) -> bool:
    """Whether a marker's ``loop=`` asks for it.

    Raises:
        pytest.UsageError: As ``asks``.
    """
    if loop is None:
        return False
    if loop != IN_LOOP_OF_FIXTURES:
        raise pytest.UsageError(
            f"{place}: loop={loop!r} is not known.\n"
            f"To fix this, write loop={IN_LOOP_OF_FIXTURES!r}, or leave it out for a loop of the harness's own."
        )
    if not hasattr(config.hook, "pytest_asyncio_loop_factories"):
        raise pytest.UsageError(
            f"{place}: loop={IN_LOOP_OF_FIXTURES!r} needs a pytest-asyncio that asks for loop factories, and it is "
            "not here or too old.\nTo fix this, install pytest-asyncio 1.5 or later, or leave loop= out and make "
            "what belongs to an event loop in the world factory or the test."
        )
    return True


class Factories:
    """Gives a gate loop in place of each loop that others give."""

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_asyncio_loop_factories(
        self, item: Any
    ) -> Generator[None, Mapping[str, Callable[[], Any]] | None, Mapping[str, Callable[[], Any]] | None]:
        given = yield
        if not asks(item):
            return given
        from pytest_ssot_isolation.engine.gate import new_loop

        if not given:
            return {"gate": new_loop}
        return {name: functools.partial(new_loop, _kind(factory)) for name, factory in given.items()}


def _kind(factory: Callable[[], Any]) -> str:
    made_by = getattr(factory, "__module__", "") or ""
    return "uvloop" if made_by.partition(".")[0] == "uvloop" else "asyncio"


@contextmanager
def given_to(definition: Any) -> Generator[None]:
    """Have the hook while the items of one function are made, and only where it asks.

    For all others of the suite the hook is not there: one that gave None would stop them.
    """
    if not asks(definition):
        yield
        return
    plugins, factories = definition.config.pluginmanager, Factories()
    plugins.register(factories, "ssot_isolation_gate_loops")
    try:
        yield
    finally:
        plugins.unregister(factories)
