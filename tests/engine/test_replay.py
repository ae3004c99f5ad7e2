"""One recorded schedule, again and again: one trace and one outcome, whatever the machine does meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import util
from pathlib import Path
from typing import Any

import pytest

_found = util.spec_from_file_location("ssot_replay_cases", Path(__file__).with_name("replay_cases.py"))
assert _found is not None
assert _found.loader is not None
cases = util.module_from_spec(_found)
_found.loader.exec_module(cases)

TIMES = int(os.environ.get("SSOT_TEST_REPLAYS", "50"))

each_loop = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def hold(measured: dict[int, Any]) -> None:
    """Each walk gave one trace and one outcome, and did choose something."""
    for walk, (traces, outcomes, _, _, anchors, _) in measured.items():
        assert (traces, outcomes) == (1, 1), f"walk {walk}: {traces} traces, {outcomes} outcomes"
        assert anchors > 0


def with_loop(loop: str) -> str:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    return loop


@each_loop
@pytest.mark.parametrize("world", cases.WITHOUT_SERVERS[:-1], ids=lambda world: world.__name__)
def test_a_schedule_replays_exactly(staged: Callable[..., Any], loop: str, world: Any) -> None:
    with staged(with_loop(loop)) as stage:
        hold(cases.replay(stage, world, TIMES))


@each_loop
def test_a_schedule_replays_exactly_over_loopback(staged: Callable[..., Any], loop: str) -> None:
    with staged(with_loop(loop)) as stage:
        # A server is started for each run, and its own turn of a tenth of a second is what takes the time.
        hold(cases.replay(stage, cases.http_over_loopback, TIMES // 10, walks=(4,), most=1))


@each_loop
@pytest.mark.parametrize("name", list(cases.ON_POSTGRES))
def test_a_schedule_replays_exactly_on_postgres(
    staged: Callable[..., Any], loop: str, name: str, postgres: Any
) -> None:
    postgres.apply(cases.SCHEMA)

    @asynccontextmanager
    async def world() -> AsyncIterator[Sequence[Any]]:
        await postgres.reset_async()
        async with cases.ON_POSTGRES[name](postgres.dsn) as acts:
            yield acts

    with staged(with_loop(loop)) as stage:
        stage.set(blocked=lambda: len(postgres.blocked_pids()))
        # Of the walks of the lock the second shares ticks, also where a lane is blocked.
        walks = (2, 13) if "lock" in name else (1, 2, 3, 4, 5, 6)
        measured = cases.replay(stage, world, TIMES // 2, walks=walks, in_flight=False)

    hold(measured)
    if "lock" in name:
        assert all(blocked > 0 for _, _, _, blocked, _, _ in measured.values())


def test_what_a_replay_records_replays_again(staged: Callable[..., Any]) -> None:
    async def twice() -> tuple[Any, Any]:
        async with cases.in_memory() as acts:
            first = await stage.make(acts, walk=5, calls=2).perform()
        async with cases.in_memory() as acts:
            return first, await stage.make(acts, schedule=first.schedule, strict=True, calls=2).perform()

    with staged() as stage:
        first, second = stage.host.run(twice())

    assert second.schedule == first.schedule


LEAKY = """
    import asyncio
    from pytest_ssot_isolation import Surface, keys, operation, secrets

    class App:
        def __init__(self):
            self.user, self.notes = None, {}

    class Notes(Surface):
        @operation(title=keys(), body=secrets())
        async def write(self, title, body):
            self.world.user = self.user.user_id
            await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0.1))
            self.world.notes[self.world.user, title] = body

        @operation(title=keys())
        async def read(self, title):
            await asyncio.sleep(0)
            return self.world.notes.get((self.user.user_id, title))

    def test_notes(isolation):
        isolation.check(Notes, world=App, stop_at_first=True, examples=200)
"""


def test_a_recording_replays_in_a_new_process_with_another_hash_seed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(LEAKY)
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    pytester.runpytest_subprocess("--ssot-seed=7", "--ssot-report=report.json").assert_outcomes(failed=1)
    (recorded,) = (pytester.path / ".ssot").rglob("*.json")
    assert json.loads(recorded.read_text())["trace"]

    for hash_seed in ("2", "3"):
        monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
        again = pytester.runpytest_subprocess(f"--ssot-replay={recorded}")
        again.assert_outcomes(failed=1)
        again.stdout.no_fnmatch_line("*ReplayMismatch*")
        again.stdout.fnmatch_lines(["*LEAK*"])
