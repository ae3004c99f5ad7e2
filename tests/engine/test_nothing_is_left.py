"""After any example, also a failing, cancelled or stuck one: nothing is left, and nothing grows."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pytest_ssot_isolation import Surface, keys, operation, secrets
from pytest_ssot_isolation.model.schedule import Fault


def alive() -> tuple[int, int]:
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


async def fine() -> None:
    await asyncio.gather(asyncio.sleep(0.1), asyncio.sleep(0.2))


async def fails() -> None:
    await asyncio.sleep(0)
    raise LookupError("not here")


async def leaves_a_task() -> None:
    left.append(asyncio.create_task(asyncio.sleep(3600)))
    await asyncio.sleep(0)


async def deadlocks() -> None:
    lock = asyncio.Lock()
    async with lock, lock:
        pass


async def in_a_thread() -> None:
    await asyncio.to_thread(time.sleep, 0.001)


async def never_ends() -> None:
    while True:  # noqa: ASYNC110
        await asyncio.sleep(0)


left: list[asyncio.Task[None]] = []

each_act = pytest.mark.parametrize(
    "act", [fine, fails, leaves_a_task, deadlocks, in_a_thread, never_ends], ids=lambda act: act.__name__
)


@each_act
@pytest.mark.parametrize(
    "faults", [(), (Fault(0, "cancel", 1), Fault(1, "cancel in flight", 1))], ids=["", "cancelled"]
)
def test_nothing_is_left_after_an_example(
    staged: Callable[..., Any], act: Callable[[], Awaitable[None]], faults: tuple[Fault, ...]
) -> None:
    before = alive()
    with staged() as stage:
        stage.set(most_steps=100)
        for seed in range(3):
            stage.run(act, act, walk=seed, faults=faults)
        tasks = asyncio.all_tasks(stage.loop)
        assert {getattr(task.get_coro(), "__qualname__", "") for task in tasks} <= {
            "sleep"
        }  # the application's own
    assert all(task.done() for task in left)
    left.clear()

    assert alive() == before


def test_lanes_timers_and_callbacks_of_a_run_are_let_go_of(stage: Any) -> None:
    async def act() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(asyncio.sleep(0.1), asyncio.to_thread(int))

    def count() -> dict[str, int]:
        gc.collect()
        names = (
            "Lane",
            "Turns",
            "Run",
            "Task",
            "TimerHandle",
            "Handle",
            "History",
            "Session",
            "VirtualClock",
        )
        found = [type(each).__name__ for each in gc.get_objects()]
        return {name: found.count(name) for name in names}

    stage.run(act, act, walk=0)
    before = count()
    for seed in range(20):
        stage.run(act, act, walk=seed)

    assert count() == before


class Notes(Surface[dict[Any, Any]]):
    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> None:
        await asyncio.sleep(0)
        self.world[self.user.user_id, title] = body

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        return self.world.get((self.user.user_id, title))


def test_a_check_does_not_grow_with_its_examples(isolation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is kept on purpose, for a leak that an earlier example left, is full sooner.
    monkeypatch.setattr("pytest_ssot_isolation.model.known.KEPT", 100)
    sizes: list[int] = []

    def progress(examples: int, _findings: int) -> None:
        if examples in (250, 500, 750):
            gc.collect()
            sizes.append(len(gc.get_objects()))

    isolation.check(
        Notes, world=dict, examples=760, calls=8, oracles=["canary"], ids="plain", seed=3, progress=progress
    )

    assert sizes[2] - sizes[1] < 500, sizes
