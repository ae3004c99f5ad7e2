"""What programs and faults are drawn like."""

from __future__ import annotations

import random
from collections import Counter

from pytest_ssot_isolation import Surface, keys, operation, secrets
from pytest_ssot_isolation.engine.habits import Habits
from pytest_ssot_isolation.generation import faults, programs
from pytest_ssot_isolation.model.history import Bound, History, Observation, Outcome
from pytest_ssot_isolation.model.program import Key, Program
from pytest_ssot_isolation.surfaces.base import operations_of


class Notes(Surface[None]):
    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> None: ...

    @operation(title=keys())
    async def read(self, title: str) -> str | None: ...

    @operation
    async def idle(self) -> None: ...


OPERATIONS = [operations_of(Notes)] * 3


def drawn(seed: int, *, most_calls: int = 24, telling: frozenset[str] = frozenset()) -> Program:
    return programs.draw(
        random.Random(seed), OPERATIONS, most_calls=most_calls, keys=6, pool_size=4, telling=telling
    )


def test_a_program_makes_most_of_the_calls_that_are_allowed() -> None:
    lengths = {len(drawn(seed).calls) for seed in range(200)}

    assert lengths == {20, 21, 22, 23, 24}
    assert {len(drawn(seed, most_calls=5).calls) for seed in range(50)} == {5}


def test_in_most_programs_everybody_plants_at_one_key_first() -> None:
    alike = 0
    for seed in range(200):
        first = drawn(seed).calls[:3]
        places = {dict(call.arguments).get("title") for call in first}
        alike += {call.operation for call in first} == {"write"} and len(places) == 1
        assert all(isinstance(place, Key | None) for place in places)

    assert alike >= 160


def test_a_read_back_asks_the_operations_that_were_seen_to_tell_something() -> None:
    asked: Counter[str] = Counter()
    for seed in range(200):
        asked.update(call.operation for call in drawn(seed, telling=frozenset({"read"})).calls[-6:])
    assert set(asked) == {"read"}

    unknown = Counter(call.operation for seed in range(200) for call in drawn(seed).calls[-6:])
    assert set(unknown) == {"read", "idle"}


def test_faults_strike_awaits_that_exist_and_spare_somebody() -> None:
    program = drawn(1)
    by_id = {call.id: call for call in program.calls}
    awaits = {"write": 3, "read": 1, "idle": 0}
    struck: Counter[str] = Counter()
    for seed in range(300):
        rng = random.Random(seed)
        chosen = faults.draw(rng, program, ("cancel", "cancel in flight"), awaits.__getitem__)
        assert len({by_id[fault.call].user for fault in chosen}) < 3
        assert len({fault.call for fault in chosen}) == len(chosen)
        for fault in chosen:
            operation = by_id[fault.call].operation
            assert 1 <= fault.step <= awaits[operation]
            struck[operation] += 1

    assert struck["idle"] == 0
    assert struck["write"] > struck["read"] > 0


def test_what_plants_is_cut_off_less_often_than_what_does_not() -> None:
    program = drawn(1)
    called = Counter(call.operation for call in program.calls)
    by_id = {call.id: call.operation for call in program.calls}
    struck: Counter[str] = Counter()
    for seed in range(300):
        chosen = faults.draw(random.Random(seed), program, ("cancel",), lambda operation: 1)
        struck.update(by_id[fault.call] for fault in chosen)

    assert struck["write"] / called["write"] < 0.8 * struck["read"] / called["read"]


def test_no_faults_are_drawn_where_none_were_asked_for() -> None:
    assert faults.draw(random.Random(1), drawn(1), (), lambda operation: 1) == []


def seen(operation: str, value: object, *, call: int, outcome: Outcome = Outcome.OK) -> Observation:
    return Observation(
        index=call, user=0, call=call, operation=operation, channel="result", outcome=outcome, seen=value,
        began=call, ended=call,
    )  # fmt: skip


def test_habits_are_learnt_from_what_calls_did() -> None:
    habits = Habits()
    assert habits.awaits("read", random.Random(1)) == 2

    habits.learn(
        History(
            principals=(),
            observations=(
                seen("write", None, call=0),
                seen("read", {"status": 200, "headers": {}, "body": "a note"}, call=1),
                seen("leave", {"status": 204, "headers": {}, "body": ""}, call=2),
                seen("broken", "an error", call=3, outcome=Outcome.FAILED),
            ),
            bound={call: Bound(id=call, user=0, operation=name, arguments=()) for call, name in
                   enumerate(("write", "read", "leave", "broken"))},
            resumptions={0: 1, 1: 4},
        )
    )  # fmt: skip

    assert habits.telling == {"read"}
    assert habits.awaits("write", random.Random(1)) == 0
    assert habits.awaits("read", random.Random(1)) == 3


def test_an_operation_is_silent_that_succeeded_often_and_never_said_anything() -> None:
    habits = Habits()
    calls = [
        seen(("join", "read")[call % 2], ("a note" if call == 15 else None), call=call) for call in range(16)
    ]

    habits.learn(History(principals=(), observations=tuple(calls[:14])))
    assert habits.silent == frozenset()

    habits.learn(History(principals=(), observations=tuple(calls)))
    assert habits.silent == {"join"}


def test_a_sweep_begins_with_what_never_answers_so_that_messages_reach_those_who_joined() -> None:
    def order(silent: frozenset[str]) -> list[str]:
        swept = programs.sweep(random.Random(1), OPERATIONS, keys=1, pool_size=4, silent=silent)
        return [call.operation for call in swept.calls]

    assert order(frozenset())[:3] == ["write"] * 3
    assert order(frozenset({"idle", "write"}))[:6] == ["idle"] * 3 + ["write"] * 3
