"""Plain ``pytest`` runs one row of each family; ``-m zoo`` the others, ``-m "zoo or not zoo"`` all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .servers import NotInstalled, RedisDatabase, redis_server

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long form of the zoo out, unless the marker expression speaks of it."""
    if "zoo" in (config.getoption("markexpr") or ""):
        return
    long = [item for item in items if HERE in item.path.parents and item.get_closest_marker("zoo")]
    named = {
        argument.partition("[")[2].rstrip("]")
        for argument in config.invocation_params.args
        if "[" in str(argument)
    }
    long = [item for item in long if not any(name and name in item.name for name in named)]
    if long:
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisDatabase]:
    """A redis server of the run's own; a loud skip where the program is not installed."""
    try:
        with redis_server() as database:
            yield database
    except NotInstalled as why:
        pytest.skip(str(why))
