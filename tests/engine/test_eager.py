"""What is due is looked for before the loop sleeps, and what a step leaves to a callback runs before the next step."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_ssot_isolation.engine import eager
from pytest_ssot_isolation.engine.eager import Alarm, EagerSelector


@pytest.fixture
def pair() -> Any:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_a_reply_is_looked_for_once_and_then_slept_for(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float | None] = []
    base = EagerSelector.__mro__[1]

    def select(_self: Any, timeout: float | None = None) -> list[Any]:
        looks.append(timeout)
        return []

    monkeypatch.setattr(base, "select", select)
    monkeypatch.setattr(eager, "EAGER", 0.01)
    selector = EagerSelector()
    selector.expects_reply = True
    try:
        selector.select(5)
        selector.select(5)
    finally:
        selector.close()

    assert looks.count(5) == 2, "it sleeps in the end"
    assert looks[0] == 0
    assert looks[-2:] == [5, 5], "the second time it sleeps at once"


def test_a_reply_that_is_there_is_given_without_sleep(pair: Any) -> None:
    one, other = pair
    with EagerSelector() as selector:
        selector.register(one, 1)
        selector.expects_reply = True
        other.send(b"x")
        assert [key.fileobj for key, _ in selector.select(None)] == [one]


def test_only_looking_does_not_use_up_the_expectation(pair: Any) -> None:
    with EagerSelector() as selector:
        selector.expects_reply = True
        selector.select(0)
        assert selector.expects_reply


class _Later:
    """Timers that go off when they are told to."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None], asyncio.TimerHandle]] = []
        self.loop = asyncio.new_event_loop()

    def __call__(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(seconds, callback, (), self.loop)
        self.timers.append((seconds, callback, timer))
        return timer


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = _Later()
    now = [100.0]
    monkeypatch.setattr(eager, "time", SimpleNamespace(monotonic=lambda: now[0]))
    made.now = now  # type: ignore[attr-defined]
    yield made
    made.loop.close()


def test_an_alarm_that_is_cleared_and_set_again_keeps_its_timer(later: Any) -> None:
    rang: list[str] = []
    alarm = Alarm(later)
    alarm.set(4, lambda: rang.append("first"))
    alarm.clear()
    later.now[0] += 1
    alarm.set(4, lambda: rang.append("second"))
    assert len(later.timers) == 1

    later.now[0] += 3
    later.timers[0][1]()
    assert rang == [], "too early for the second"
    assert later.timers[1][0] == 1
    later.now[0] += 1
    later.timers[1][1]()
    assert rang == ["second"]
    assert not alarm.is_set


def test_an_alarm_that_is_wanted_sooner_gets_a_timer_of_its_own(later: Any) -> None:
    rang: list[str] = []
    alarm = Alarm(later)
    alarm.set(5, lambda: rang.append("late"))
    alarm.set(1, lambda: rang.append("soon"))
    assert [timer.cancelled() for _, _, timer in later.timers] == [True, False]
    later.now[0] += 1
    later.timers[1][1]()
    assert rang == ["soon"]


def test_an_alarm_that_has_ended_leaves_nothing_in_the_loop(later: Any) -> None:
    alarm = Alarm(later)
    alarm.set(1, lambda: None)
    alarm.end()
    assert later.timers[0][2].cancelled()
    assert not alarm.is_set
    assert alarm.timer is None


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_what_a_step_leaves_to_callbacks_runs_in_its_order_before_the_next_step(
    staged: Callable[..., Any], kind: str
) -> None:
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    seen: list[str] = []

    async def leaves() -> None:
        loop = asyncio.get_running_loop()

        def first() -> None:
            seen.append("first")
            loop.call_soon(seen.append, "third")

        loop.call_soon(first)
        loop.call_soon(seen.append, "second")
        loop.call_soon(seen.append, "never").cancel()
        await asyncio.sleep(0)
        seen.append("next step")

    async def other() -> None:
        await asyncio.sleep(0)

    with staged(kind) as stage:
        for walk in range(8):
            seen.clear()
            stage.run(leaves, other, walk=walk)
            assert seen == ["first", "second", "third", "next step"]


def test_a_callback_that_comes_back_for_ever_does_not_hold_up_the_steps(stage: Any) -> None:
    came = 0
    at_the_next_step: list[int] = []

    async def leaves() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            nonlocal came
            came += 1
            if came < 10_000:
                loop.call_soon(again)

        again()
        await asyncio.sleep(0)
        at_the_next_step.append(came)

    stage.run(leaves, walk=1)

    assert len(at_the_next_step) == 1
    assert at_the_next_step[0] < 10_000
