"""What the harness costs: beside the bare gate loop, in programs a second, and on asyncpg beside plain gather."""

from __future__ import annotations

import asyncio
import contextvars
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pytest_ssot_isolation import Surface, keys, operation, secrets
from pytest_ssot_isolation.engine import attempts
from pytest_ssot_isolation.engine.ask import ORACLES
from pytest_ssot_isolation.engine.choosers import RandomWalk
from pytest_ssot_isolation.engine.heap import Collector
from pytest_ssot_isolation.engine.host import Host
from pytest_ssot_isolation.engine.lanes import USER, Turns
from pytest_ssot_isolation.engine.run import Run

ROUNDS, EXAMPLES = 5, 100
WARM = 25
"""Programs before the clock is started: the two sweeps of look-alike users are among them."""
BLOCKS, BLOCK = 9, 50
"""How often the sides change, and for how many programs."""


class App:
    def __init__(self) -> None:
        self.notes: dict[tuple[str, str], str] = {}
        self.lock = asyncio.Lock()


class Notes(Surface[App]):
    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> None:
        async with self.world.lock:
            await asyncio.sleep(0)
            self.world.notes[self.user.user_id, title] = body

    @operation(title=keys())
    async def read(self, title: str) -> str | None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self.world.notes.get((self.user.user_id, title))


async def bare(run: Run, history: Any) -> int:
    """The same calls in the same order at the gate, and nothing else: no session, no history, no oracle."""
    loop: Any = asyncio.get_running_loop()
    world = App()
    stages: dict[int, dict[int, deque[Any]]] = {}
    for call in run.script.program.calls:
        queues = stages.setdefault(call.stage, {})
        queues.setdefault(call.user, deque()).append((call.operation, dict(history.bound[call.id].arguments)))
    surfaces: dict[int, Any] = {}
    contexts: dict[int, contextvars.Context] = {}
    for user in run.script.program.users:
        surfaces[user] = Notes()
        surfaces[user].world, surfaces[user].user = world, run.cast.contexts[user]
        contexts[user] = contextvars.copy_context()
        contexts[user].run(USER.set, user)
    done = loop.create_future()
    turns = Turns(RandomWalk(run.turns.chooser._seed))  # type: ignore[attr-defined]
    turns.main = asyncio.current_task()
    turns.when_stopped = lambda: done.set_result(None)

    def next_stage() -> None:
        if not stages:
            done.set_result(None)
            return
        queues = stages.pop(min(stages))
        for user in sorted(queues):
            following(user, queues)

    def following(user: int, queues: dict[int, deque[Any]]) -> None:
        if not queues[user]:
            del queues[user]
            if not queues:
                next_stage()
            return
        name, arguments = queues[user].popleft()
        task = loop.create_task(getattr(surfaces[user], name)(**arguments), context=contexts[user].copy())
        task.add_done_callback(lambda _: following(user, queues))

    loop.close_gate(turns)
    try:
        next_stage()
        await done
    finally:
        loop.open_gate()
    return turns.steps


@pytest.mark.parametrize("calls", [24, 36])
def test_programs_a_second_in_memory(
    isolation: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], calls: int
) -> None:
    ran: list[tuple[Run, Any]] = []
    moments: dict[int, float] = {}

    class Noted(Run):
        async def perform(self) -> Any:
            history = await super().perform()
            ran.append((self, history))
            return history

    def progress(examples: int, _findings: int) -> None:
        moments[examples] = time.process_time()

    rates: list[tuple[float, float]] = []
    made: list[int] = []
    steps = [0, 0]
    for seed in range(ROUNDS):
        ran.clear()
        options: dict[str, Any] = {"calls": calls, "oracles": ["canary"], "seed": seed, "users": 3}
        options |= {"examples": WARM + EXAMPLES, "progress": progress, "world": App}
        # The programs are taken down in a check of their own: to keep them alive is not what a check does.
        with monkeypatch.context() as noting:
            noting.setattr(attempts, "Run", Noted)
            isolation.check(Notes, **options)
        isolation.check(Notes, **options)
        took = moments[WARM + EXAMPLES] - moments[WARM]
        programs = ran[-EXAMPLES:]
        made += [len(history.bound) for _, history in programs]
        steps[0] += sum(len(history.trace) for _, history in programs)
        collector = Collector()
        with Host() as host, collector.held():
            began = time.process_time()
            for run, history in programs:
                collector.run_if_due()
                steps[1] += host.run(bare(run, history))
            rates.append((took / EXAMPLES, (time.process_time() - began) / EXAMPLES))
    took, alone = (statistics.median(times) for times in zip(*rates, strict=True))
    with capsys.disabled():
        print(
            f"\n{calls} calls ({statistics.mean(made):.0f} in the mean): {1 / took:.0f} programs a second of "
            f"processor time; bare gate {1 / alone:.0f}; steps {steps[0]} and {steps[1]}; "
            f"ratio {statistics.median(b / a for a, b in rates):.2f} (bar 0.6)"
        )


def test_what_all_oracles_cost_beside_the_canary_oracle_alone(
    isolation: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    moments: dict[int, float] = {}
    ratios: list[float] = []

    def progress(examples: int, _findings: int) -> None:
        moments[examples] = time.process_time()

    for seed in range(ROUNDS):
        took = []
        for oracles in (list(ORACLES), ["canary"]):
            isolation.check(
                Notes, world=App, oracles=oracles, seed=seed, examples=WARM + EXAMPLES, progress=progress
            )
            took.append(moments[WARM + EXAMPLES] - moments[WARM])
        ratios.append(took[0] / took[1])
    with capsys.disabled():
        print(
            f"\nall oracles: {statistics.median(ratios):.2f} times the canary oracle alone "
            f"({min(ratios):.2f} to {max(ratios):.2f}; bar 2)"
        )


SCHEMA = "CREATE TABLE note (owner text, title text, body text); GRANT ALL ON note TO PUBLIC"


class Pooled(Surface[Any]):
    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> None:
        async with self.world.acquire() as connection:
            await connection.execute("INSERT INTO note VALUES ($1, $2, $3)", self.user.user_id, title, body)

    @operation(title=keys())
    async def read(self, title: str) -> list[str]:
        async with self.world.acquire() as connection:
            rows = await connection.fetch(
                "SELECT body FROM note WHERE owner = $1 AND title = $2", self.user.user_id, title
            )
        return [row["body"] for row in rows]


@pytest.mark.parametrize("size", [1, 3])
def test_programs_a_second_on_asyncpg(
    isolation: Any,
    postgres: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    size: int,
) -> None:
    """Both sides in turns: the same programs from the same empty table, in a pool that the same programs warmed."""
    import asyncpg

    postgres.apply(SCHEMA)
    ran: list[tuple[Run, Any, float]] = []
    collector = Collector()

    class Timed(Run):
        async def perform(self) -> Any:
            began = time.perf_counter()
            history = await super().perform()
            took = time.perf_counter() - began
            if not self.script.program.sequential:
                ran.append((self, history, took))
            return history

    @asynccontextmanager
    async def world() -> AsyncIterator[Any]:
        async with asyncpg.create_pool(postgres.dsn, min_size=size, max_size=size) as pool:
            yield pool

    async def plain() -> float:
        async with world() as pool:

            async def user(index: int, run: Run, history: Any) -> None:
                surface = Pooled()
                surface.world, surface.user = pool, run.cast.contexts[index]
                for call in run.script.program.calls:
                    if call.user == index and call.id in history.bound:
                        await getattr(surface, call.operation)(**dict(history.bound[call.id].arguments))

            times = []
            for run, history, _ in ran:
                await postgres.reset_async()
                collector.run_if_due()  # as in a check, not in the middle
                began = time.perf_counter()
                await asyncio.gather(*(user(index, run, history) for index in run.script.program.users))
                times.append(time.perf_counter() - began)
            return statistics.mean(times[-BLOCK:])

    moments: dict[int, float] = {}

    def progress(examples: int, _findings: int) -> None:
        moments[examples] = time.perf_counter()

    with monkeypatch.context() as timing:
        timing.setattr(attempts, "Run", Timed)
        blocks: list[tuple[float, float, float]] = []
        for seed in range(BLOCKS):
            ran.clear()
            isolation.check(
                Pooled,
                world=world,
                world_scope="check",
                calls=12,
                examples=WARM + BLOCK,
                oracles=["canary"],
                ids="plain",
                seed=seed,
                progress=progress,
            )
            each = statistics.mean(took for _, _, took in ran[-BLOCK:])
            with collector.held():
                alone = asyncio.run(plain())
            blocks.append(((moments[WARM + BLOCK] - moments[WARM]) / BLOCK, each, alone))
    ratios = [each / alone for _, each, alone in blocks]
    with_all, each, alone = (statistics.median(times) for times in zip(*blocks, strict=True))
    with capsys.disabled():
        print(
            f"\nasyncpg, 12 calls, pool of {size}: {1 / with_all:.0f} programs a second with all (bar 50); a run "
            f"takes {1000 * each:.2f} ms, plain gather {1000 * alone:.2f} ms, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}; bar {1.5 if size == 1 else 3})"
        )
