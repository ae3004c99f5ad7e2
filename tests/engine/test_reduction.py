"""A history is made small: what is dropped takes nothing away from the order of what is left."""

from __future__ import annotations

import asyncio

import pytest

from pytest_ssot_isolation import Surface, operation
from pytest_ssot_isolation.engine.reduce import Example, Reducer
from pytest_ssot_isolation.engine.script import Script
from pytest_ssot_isolation.generation.casts import CastPlan
from pytest_ssot_isolation.model.program import Call, Program
from pytest_ssot_isolation.model.schedule import Anchor, Schedule
from tests.benchmarks import planted_races
from tests.benchmarks.test_finding import hunt


class Actor(Surface[None]):
    @operation
    async def act(self) -> None:
        pass


def test_a_call_is_dropped_although_the_others_are_switched_in_the_middle_of_it() -> None:
    calls = (Call(0, 0, "act"), Call(1, 1, "act"), Call(2, 0, "act"), Call(3, 1, "act"))
    schedule = Schedule(anchors=(Anchor((1, 1, 1), 0),))
    path = ((0, 0, 0), (1, 1, 0), (0, 2, 1), (1, 1, 0), (1, 3, 1))
    script = Script(
        number=0, program=Program(calls=calls), surfaces=(Actor, Actor), plan=CastPlan(count=2), serial=1
    )
    orders: list[tuple[int, ...]] = []

    async def shows(candidate: Example, follows: bool) -> Example | None:
        left = {call.id for call in candidate.script.program.calls}
        if follows:
            orders.append(tuple(call for _, call, _ in candidate.path if call in left))
        in_order = follows or Anchor((1, 1, 1), 0) in candidate.schedule.anchors
        return candidate if {0, 2, 3} <= left and in_order else None

    small = asyncio.run(Reducer(shows).reduce(Example(script, schedule, path), shown=3))

    assert [call.id for call in small.script.program.calls] == [0, 2, 3]
    assert (0, 2, 3) in orders


@pytest.mark.parametrize("seed", [3, 17])
def test_a_race_with_a_late_writer_ends_as_three_calls(seed: int) -> None:
    (race,) = (race for race in planted_races.RACES if race.surface is planted_races.LateWriter)

    (finding,) = hunt(race, seed).findings

    assert len(finding.calls) <= race.calls
    assert finding.preemptions <= race.preemptions + 1
    assert "5 of 5 replays" in finding.shrunk
