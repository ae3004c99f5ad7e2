"""How long after the last step a deadlock is told."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from pytest_ssot_isolation.engine.choosers import Recorded
from pytest_ssot_isolation.engine.host import Host
from pytest_ssot_isolation.engine.lanes import USER, Turns
from pytest_ssot_isolation.errors import Deadlock
from pytest_ssot_isolation.model.schedule import NATURAL

TIMES = 20

Act = Callable[[], Coroutine[Any, Any, None]]


def crossed_locks() -> list[Act]:
    first, second = asyncio.Lock(), asyncio.Lock()
    held = asyncio.Event()

    async def one() -> None:
        async with first:
            await held.wait()
            async with second:
                pass

    async def other() -> None:
        async with second:
            held.set()
            async with first:
                pass

    return [one, other]


def lost_wake_up() -> list[Act]:
    async def one() -> None:
        await asyncio.Event().wait()

    return [one]


async def told_after(acts: Callable[[], list[Act]]) -> float:
    """Seconds from the last step of a run to its end by a deadlock."""
    loop: Any = asyncio.get_running_loop()
    ended: asyncio.Future[float] = loop.create_future()
    turns = Turns(Recorded(NATURAL), main=asyncio.current_task())
    last = 0.0

    def stepped(_lane: object) -> None:
        nonlocal last
        last = time.perf_counter()

    turns.after_step = stepped
    turns.when_stopped = lambda: ended.set_result(time.perf_counter())
    tasks = []
    loop.close_gate(turns)
    try:
        for user, act in enumerate(acts()):
            token = USER.set(user)
            tasks.append(loop.create_task(act()))
            USER.reset(token)
        took = await ended - last
    finally:
        loop.open_gate()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(turns.stopped, Deadlock)
    return took


async def many(acts: Callable[[], list[Act]]) -> list[float]:
    return [await told_after(acts) for _ in range(TIMES)]


async def beside_a_socket(acts: Callable[[], list[Act]]) -> list[float]:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        return await many(acts)
    finally:
        writer.close()
        await writer.wait_closed()
        await gone.wait()
        server.close()


@pytest.mark.parametrize("acts", [crossed_locks, lost_wake_up], ids=lambda acts: acts.__name__)
@pytest.mark.parametrize("around", [many, beside_a_socket], ids=lambda around: around.__name__)
def test_how_soon_a_deadlock_is_told(
    acts: Callable[[], list[Act]],
    around: Callable[[Callable[[], list[Act]]], Awaitable[list[float]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Host() as host:
        took: list[float] = host.run(around(acts))  # type: ignore[arg-type]
    with capsys.disabled():
        print(
            f"\n{acts.__name__}, {around.__name__}: told {1000 * statistics.median(took):.1f} ms after the last "
            f"step in the median of {TIMES}, {1000 * max(took):.1f} ms at the worst (bar 50)"
        )
