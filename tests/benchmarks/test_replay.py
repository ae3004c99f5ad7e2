"""Two hundred replays of each recorded schedule, as a table."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import util
from pathlib import Path
from typing import Any

import pytest


def _load(name: str) -> Any:
    path = Path(__file__).parents[1] / "engine" / f"{name}.py"
    found = util.spec_from_file_location(f"ssot_bench_{name}", path)
    assert found is not None
    assert found.loader is not None
    module = util.module_from_spec(found)
    __import__("sys").modules[found.name] = module
    found.loader.exec_module(module)
    return module


cases, stages = _load("replay_cases"), _load("conftest")
TIMES = int(os.environ.get("SSOT_TEST_REPLAYS", "200"))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.timeout(1200)
def test_two_hundred_replays_of_each_case(
    loop: str, postgres: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    postgres.apply(cases.SCHEMA)
    rows = []

    def measure(name: str, world: Any, times: int, in_flight: bool = True) -> None:
        with stages.staged(loop) as stage:
            stage.set(blocked=lambda: len(postgres.blocked_pids()))
            for walk, (traces, outcomes, took, blocked, anchors, _) in cases.replay(
                stage, world, times, in_flight=in_flight
            ).items():
                rows.append(
                    f"{loop:8} {name:42} {walk:3} {times:5} {traces:6} {outcomes:8} {took:8.1f} {anchors:7} {blocked:7}"
                )

    for world in cases.WITHOUT_SERVERS:
        slow = world.__name__ == "http_over_loopback"  # a server is started for each run
        measure(world.__name__, world, TIMES // 10 if slow else TIMES)
    for name, make in cases.ON_POSTGRES.items():

        @asynccontextmanager
        async def world(make: Any = make) -> AsyncIterator[Sequence[Any]]:
            await postgres.reset_async()
            async with make(postgres.dsn) as acts:
                yield acts

        measure(name, world, TIMES, in_flight=False)
    with capsys.disabled():
        print(
            f"\nloop     case {'':37} walk times traces outcomes   ms/run choices blocked\n" + "\n".join(rows)
        )
    exact = sum(row.split()[-5:-3] == ["1", "1"] for row in rows)
    with capsys.disabled():
        print(
            f"{exact} of {len(rows)} cases replayed exactly; tests/engine/test_replay.py holds them to it in fewer runs"
        )
    assert exact == len(rows), "a replay was not exact"
