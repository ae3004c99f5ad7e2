"""How many programs it takes to the first finding of each planted race, and how small it gets."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import statistics
import time
from importlib import util
from pathlib import Path
from typing import Any

import pytest

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
        seen = [n for n in plain if n is not None]
        rows.append(
            f"{race.surface.__name__:14} {len(firsts):3}/{SEEDS} "
            f"{_middle(firsts):>7} {max(firsts, default=0):5} | {race.calls}+{race.preemptions}  "
            f"{_middle(calls):>4} {max(calls, default=0):3}  {_middle(choices):>4} {max(choices, default=0):3} | "
            f"{exact:3} | {took / SEEDS:6.2f} | {_middle(seen):>6} ({len(seen)}/{len(plain)})"
        )
    with capsys.disabled():
        print(
            "\nrace           found   median worst | least calls max  choices max | 5/5 | CPU s  | plain gather\n"
            + "\n".join(rows)
        )
    assert missed == []


def _middle(values: list[int]) -> str:
    return f"{statistics.median(values):g}" if values else "-"
