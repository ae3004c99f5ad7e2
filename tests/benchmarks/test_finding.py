"""How many programs it takes to the first finding of each planted race, and how small it gets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import statistics
import time
from importlib import util
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pytest_ssot_isolation.engine.ask import Ask
from pytest_ssot_isolation.engine.host import Host
from pytest_ssot_isolation.engine.judge import Bench
from pytest_ssot_isolation.engine.run import Terms
from pytest_ssot_isolation.engine.search import Hunt
from pytest_ssot_isolation.engine.start import Starts
from pytest_ssot_isolation.generation.casts import CastPlan
from pytest_ssot_isolation.model.canary import Mint
from pytest_ssot_isolation.model.scan import Scanner
from pytest_ssot_isolation.parameters import read
from pytest_ssot_isolation.surfaces.base import operations_of

_found = util.spec_from_file_location("ssot_planted_races", Path(__file__).with_name("planted_races.py"))
assert _found is not None
assert _found.loader is not None
planted = util.module_from_spec(_found)
__import__("sys").modules[_found.name] = planted
_found.loader.exec_module(planted)

SEEDS = int(os.environ.get("SSOT_TEST_SEEDS", "30"))
MOST = 1000


def hunt(race: Any, seed: int) -> Hunt:
    """One check by its parts, so that it can be asked what it did."""
    ask = Ask(
        surfaces=(race.surface,),
        operations={race.surface: operations_of(race.surface)},
        examples=MOST,
        oracles=("canary",),
        faults=race.faults,
        stop_at_first=True,
        seed=seed,
    )
    mint = Mint(hashlib.sha256(f"canaries {seed}".encode()).digest())
    bench = Bench(
        oracles=frozenset(ask.oracles), scanner=Scanner(mint), declared=read(race.surface, {}, {}).declared
    )
    made = Hunt(
        ask,
        Terms(mint=mint),
        Starts(planted.Store, None),
        bench,
        keep=lambda recording, *_: recording.to_text(),
    )
    with Host() as host:
        host.run(made.run())
    return made


def by_gather(race: Any, seed: int, most: int = 300) -> int | None:
    """Programs until plain ``gather`` with random pauses shows the same bug; None where it does not."""
    rng = random.Random(f"gather {seed}")
    operations = [operations_of(race.surface)] * 3
    mint = Mint(hashlib.sha256(f"canaries {seed}".encode()).digest())
    names = [name for name in operations[0] if name not in ("write", "save", "noise")]

    async def once() -> bool:
        world, cast = planted.Store(), CastPlan(ids="plain", count=3, seed=seed).cast("gathr")
        owners: dict[str, int] = {}
        leaked = False

        async def user(index: int) -> None:
            nonlocal leaked
            surface = race.surface()
            surface.world, surface.user = world, cast.contexts[index]

            async def io() -> None:
                await asyncio.sleep(rng.random() * 0.001)

            surface.io = io
            for turn in range(8):
                title = cast.keys[rng.randrange(2)]
                if turn < 2:
                    body = str(mint.mint(index, turn, str).value)
                    owners[body] = index
                    name = rng.choice([n for n in ("write", "save") if n in operations[index]])
                    await getattr(surface, name)(title=title, body=body)
                    continue
                name = rng.choice(names)
                arguments = {"title": title} if operations[index][name].arguments else {}
                task = asyncio.ensure_future(getattr(surface, name)(**arguments))
                if race.faults and rng.random() < 0.3:
                    asyncio.get_running_loop().call_later(rng.random() * 0.002, task.cancel)
                await asyncio.wait([task])
                seen = None if task.cancelled() or task.exception() else task.result()
                leaked |= owners.get(seen if isinstance(seen, str) else "", index) != index

        await asyncio.gather(*(user(index) for index in range(3)))
        return leaked

    with asyncio.Runner() as runner:
        for number in range(1, most + 1):
            if runner.run(once()):
                return number
    return None


def by_state_machine(race: Any, seed: int, most: int = 300) -> int | None:
    """Runs of a ``RuleBasedStateMachine`` until it shows the same bug; None where it does not.

    The machine is what one would write by hand: its rules begin a call for a user, let every task go one
    step on, or cancel a call; after each rule nobody may have read another's secret.
    """
    operations = operations_of(race.surface)
    names = [name for name in operations if name != "noise"]
    mint = Mint(hashlib.sha256(f"canaries {seed}".encode()).digest())
    runs, first = 0, None

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            nonlocal runs
            runs += 1
            super().__init__()
            self.loop = asyncio.new_event_loop()
            self.cast = CastPlan(ids="plain", count=3, seed=seed).cast("machi")
            self.owners: dict[str, int] = {}
            self.tasks: dict[int, asyncio.Task[Any]] = {}
            self.surfaces = []
            world = planted.Store()
            for context in self.cast.contexts:
                surface = race.surface()
                surface.world, surface.user = world, context
                self.surfaces.append(surface)

        @rule(user=st.integers(0, 2), name=st.sampled_from(names), key=st.integers(0, 1))
        def begin(self, user: int, name: str, key: int) -> None:
            if user in self.tasks:
                return
            arguments: dict[str, str] = {}
            if "title" in operations[name].arguments:
                arguments["title"] = self.cast.keys[key]
            if "body" in operations[name].arguments:
                arguments["body"] = str(mint.mint(user, len(self.owners), str).value)
                self.owners[arguments["body"]] = user
            call = getattr(self.surfaces[user], name)
            self.tasks[user] = self.loop.create_task(call(**arguments))

        @rule()
        def step(self) -> None:
            self.loop.run_until_complete(asyncio.sleep(0))

        @invariant()
        def nobody_reads_what_is_anothers(self) -> None:
            nonlocal first
            for user, task in [(user, task) for user, task in self.tasks.items() if task.done()]:
                del self.tasks[user]
                seen = None if task.cancelled() or task.exception() else task.result()
                if self.owners.get(seen if isinstance(seen, str) else "", user) != user:
                    first = first or runs
                    raise AssertionError("a leak")

        def teardown(self) -> None:
            for task in (left := asyncio.all_tasks(self.loop)):
                task.cancel()
            if left:
                self.loop.run_until_complete(asyncio.wait(left))
            self.loop.close()

    class MachineThatCancels(Machine):
        @rule(user=st.integers(0, 2))
        def cancel(self, user: int) -> None:
            if user in self.tasks:
                self.tasks[user].cancel()

    with contextlib.suppress(AssertionError):
        run_state_machine_as_test(
            hypothesis.seed(seed)(MachineThatCancels if race.faults else Machine),
            settings=hypothesis.settings(
                max_examples=most,
                phases=[hypothesis.Phase.generate],
                database=None,
                deadline=None,
                report_multiple_bugs=False,
                suppress_health_check=list(hypothesis.HealthCheck),
                verbosity=hypothesis.Verbosity.quiet,
            ),
        )
    return first


@pytest.mark.timeout(3600)
def test_each_planted_race_is_found_and_made_small(capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    missed = []
    for race in planted.RACES:
        firsts, calls, choices, exact = [], [], [], 0
        began = time.process_time()
        for seed in range(SEEDS):
            made = hunt(race, seed)
            if not made.findings:
                missed.append((race.surface.__name__, seed))
                continue
            finding = made.findings[0]
            firsts.append(made.tally.examples)
            calls.append(len(finding.calls))
            choices.append(finding.preemptions)
            exact += "5 of 5" in finding.shrunk
        took = time.process_time() - began
        plain = [by_gather(race, seed) for seed in range(min(SEEDS, 5))]
        machine = [by_state_machine(race, seed) for seed in range(min(SEEDS, 5))]
        rows.append(
            f"{race.surface.__name__:14} {len(firsts):3}/{SEEDS} "
            f"{_middle(firsts):>7} {max(firsts, default=0):5} | {race.calls}+{race.preemptions}  "
            f"{_middle(calls):>4} {max(calls, default=0):3}  {_middle(choices):>4} {max(choices, default=0):3} | "
            f"{exact:3} | {took / SEEDS:6.2f} | {_beside(plain):>12} | {_beside(machine):>12}"
        )
    with capsys.disabled():
        print(
            "\nrace           found   median worst | least calls max  choices max | 5/5 | CPU s  "
            "| plain gather | state machine\n" + "\n".join(rows)
        )
    assert missed == []


def _middle(values: list[int]) -> str:
    return f"{statistics.median(values):g}" if values else "-"


def _beside(runs: list[int | None]) -> str:
    seen = [number for number in runs if number is not None]
    return f"{_middle(seen)} ({len(seen)}/{len(runs)})"
