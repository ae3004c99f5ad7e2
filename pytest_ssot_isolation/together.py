"""``@pytest.mark.concurrency``: an ordinary ``async def`` test, run by several users at the same time."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest

from pytest_ssot_isolation.gate_loops import is_wanted

MARK = "concurrency"
_ATTRIBUTE = "__ssot_together__"
_RUNNING = "__ssot_running__"


def items_of(collector: Any, name: str, function: object) -> list[pytest.Function] | None:
    """Collect a marked coroutine function so that no plugin for asyncio takes it for its own.

    Args:
        collector: The module or class in which it was found.
        name: Its name.
        function: What was found.

    Returns:
        Its items, each with a plain function in place of the coroutine function; None for all else.
    """
    if not inspect.iscoroutinefunction(function) or not collector.istestfunction(function, name):
        return None
    own = any(mark.name == MARK for mark in getattr(function, "pytestmark", ()))
    if not own and collector.get_closest_marker(MARK) is None:
        return None

    @functools.wraps(function)
    def together(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"{name} is run by pytest-ssot-isolation, not called")

    @functools.wraps(function)
    async def in_loop_of_fixtures(*_: Any, **__: Any) -> None:
        await _run_here(running[0], function)

    running: list[pytest.Function] = []
    setattr(together, _ATTRIBUTE, function)
    setattr(in_loop_of_fixtures, _RUNNING, running)
    loop = _said(collector, function).get("loop")
    here = is_wanted(loop, collector.config, f"{collector.nodeid}::{name}")
    if here and not any(mark.name == "asyncio" for mark in getattr(function, "pytestmark", ())):
        pytest.mark.asyncio(function)  # pytest-asyncio runs it, also in strict mode
    items: list[pytest.Function] = list(collector._genfunctions(name, function))
    for item in items:
        item.obj = in_loop_of_fixtures if here else together
    return items


def _said(collector: Any, function: object) -> dict[str, Any]:
    """What the markers say, the function's own last and so the strongest."""
    own = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == MARK]
    said: dict[str, Any] = {}
    for marker in [*reversed(list(collector.iter_markers(MARK))), *reversed(own)]:
        said |= marker.kwargs
    return said


def run(item: pytest.Function) -> bool:
    """Run a marked test; False for any other.

    Raises:
        SurfaceError: The marker's arguments, or a fixture, cannot be used.
    """
    running = getattr(item.obj, _RUNNING, None)
    if running is not None:
        running[:] = [item]  # pytest-asyncio goes on, in the loop of its fixtures
        return False
    test = getattr(item.obj, _ATTRIBUTE, None)
    if test is None:
        if item.get_closest_marker(MARK) is not None:
            pytest.fail(
                f"{item.name} carries @pytest.mark.concurrency but is no `async def` test.\n"
                "To fix this, make it one, or describe what a user does as a Surface and use isolation.check.",
                pytrace=False,
            )
        return False
    __tracebackhide__ = True
    from pytest_ssot_isolation.fixtures import isolation_of

    isolation_of(item).run_together(*_prepared(item, test))
    return True


async def _run_here(item: pytest.Function, test: Any) -> None:
    __tracebackhide__ = True
    from pytest_ssot_isolation.fixtures import isolation_of

    await isolation_of(item).run_together_async(*_prepared(item, test))


def _prepared(item: pytest.Function, test: Any) -> tuple[Any, str, dict[str, Any], dict[str, Any]]:
    """What is run, its name, its arguments, and what its markers say."""
    from pytest_ssot_isolation.surfaces.plain_test import PERSONAL, refuse_dependants

    info = item._fixtureinfo
    dependants = {
        personal: [
            name
            for name, definitions in info.name2fixturedefs.items()
            if name not in PERSONAL and any(personal in fixture.argnames for fixture in definitions)
        ]
        for personal in PERSONAL
    }
    refuse_dependants(item.name, dependants)
    if item.instance is not None:
        test = test.__get__(item.instance)
    arguments = {name: item.funcargs[name] for name in info.argnames}
    said: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers(MARK))):
        said |= marker.kwargs
    reset = said.get("reset")
    if reset is not None:
        said["reset"] = lambda world: reset(
            **{name: item.funcargs[name] for name in inspect.signature(reset).parameters}
        )
    # A test that was written for a replay wraps the one that found the leak, and is recorded under its name.
    name = item.name.replace(item.originalname, test.__name__, 1)
    return test, name, arguments, said
