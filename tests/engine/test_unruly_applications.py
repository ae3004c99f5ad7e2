"""Applications that fight the harness: a clear finding or error, never a hang, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ssot_isolation.errors import SurfaceError
from pytest_ssot_isolation.model.history import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


async def pause(times: int = 1) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def harmless() -> str:
    await pause(2)
    return "fine"


def test_a_call_that_ignores_its_cancellation_is_named_when_the_run_is_given_up(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_ssot_isolation.engine.run.CALL_PATIENCE", 0.05)
    enough = threading.Event()

    async def stubborn() -> None:
        while not enough.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    stage.set(most_steps=50)
    played = stage.run(stubborn, harmless)
    enough.set()
    stage.host.run(asyncio.sleep(0.05))

    assert played.trouble is not None
    assert played.trouble.kind == "stuck"
    assert "stubborn" in played.trouble.text


@pytest.mark.parametrize("how", ["computes", "sleeps in the system"])
def test_a_call_that_blocks_the_loop_is_ended_and_the_stack_is_told(
    staged: Callable[..., Any], how: str
) -> None:
    async def blocks() -> None:
        await pause()
        if how == "computes":
            while True:
                pass
        time.sleep(60)  # noqa: ASYNC251

    began = time.monotonic()
    with staged(busy_patience=0.2) as stage:
        played = stage.run(blocks, harmless)
        after = stage.run(harmless, harmless)

    assert played.trouble is not None
    assert (played.trouble.kind, played.trouble.users) == ("busy", (0,))
    assert played.trouble.text.startswith("Busy: one step ran for 0.2 s without an await.")
    assert "in blocks" in played.trouble.text
    assert "pytest_ssot_isolation" not in played.trouble.text, "the stack begins with the application"
    assert after.trouble is None
    assert time.monotonic() - began < 30


def test_a_child_task_that_blocks_the_loop_is_told_although_nobody_waits_for_it(
    staged: Callable[..., Any],
) -> None:
    async def child() -> None:
        time.sleep(60)  # noqa: ASYNC251

    async def blocks() -> None:
        task = asyncio.create_task(child())
        await pause(3)
        assert task.done()
        task.exception()

    with staged(busy_patience=0.2) as stage:
        played = stage.run(blocks, harmless)

    assert played.trouble is not None
    assert played.trouble.kind == "busy"


def test_a_thread_of_the_applications_own_may_wake_a_user(stage: Any) -> None:
    def worker(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[str]) -> None:
        time.sleep(0.02)
        loop.call_soon_threadsafe(answer.set_result, "from a thread")

    async def act() -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        threading.Thread(target=worker, args=(loop, answer)).start()
        return await answer

    played = stage.run(act, act, walk=1)

    assert (played.answers(0), played.answers(1)) == (["from a thread"], ["from a thread"])


def test_a_replaced_loop_policy_changes_nothing_and_is_put_back(staged: Callable[..., Any]) -> None:
    async def act() -> str:
        asyncio.set_event_loop_policy(Other())
        await pause()
        return "fine"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Other(asyncio.DefaultEventLoopPolicy):
            pass

        before = asyncio.get_event_loop_policy()
        with staged() as stage:
            played = stage.run(act, act, walk=1)
        after = asyncio.get_event_loop_policy()

    assert (played.answers(0), played.answers(1)) == (["fine"], ["fine"])
    assert after is before


class Unusual(BaseException):
    """An application's own."""


@pytest.mark.parametrize(
    "error", [Unusual("odd"), SystemExit(3), GeneratorExit("gone")], ids=lambda e: type(e).__name__
)
def test_an_exception_that_is_no_error_is_what_the_user_saw(stage: Any, error: BaseException) -> None:
    async def act() -> None:
        await pause()
        raise error

    played = stage.run(act, harmless, walk=1)

    assert played.outcomes(0) == [Outcome.FAILED]
    assert played.answers(0)[0]["error"]["type"] == type(error).__name__
    assert played.answers(1) == ["fine"]
    assert played.trouble is None


def test_a_child_task_that_exits_the_program_reaches_the_call_that_waits_for_it(stage: Any) -> None:
    async def child() -> None:
        await pause()
        sys.exit(4)

    async def act() -> None:
        await asyncio.create_task(child())

    played = stage.run(act, harmless, walk=1)

    assert played.answers(0)[0]["error"]["type"] == "SystemExit"
    assert played.answers(1) == ["fine"]


@pytest.mark.parametrize("outcome", [pytest.skip, pytest.fail, pytest.xfail], ids=["skip", "fail", "xfail"])
def test_a_word_for_the_test_runner_passes_through(stage: Any, outcome: Callable[[str], Any]) -> None:
    async def act() -> None:
        await pause()
        outcome("from inside")

    with pytest.raises(outcome.Exception, match="from inside"):  # type: ignore[attr-defined]
        stage.run(act, harmless, walk=1)
    assert stage.run(harmless).trouble is None


def test_stopping_the_loop_from_a_call_is_what_the_user_saw(stage: Any) -> None:
    async def act() -> None:
        asyncio.get_running_loop().stop()

    played = stage.run(act, harmless)

    assert "stopped the event loop" in played.answers(0)[0]["error"]["text"]
    assert played.answers(1) == ["fine"]


def test_stopping_the_loop_from_the_world_is_an_error_with_a_remedy(staged: Callable[..., Any]) -> None:
    async def world() -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
        await asyncio.sleep(5)

    with staged() as stage, pytest.raises(SurfaceError) as caught:
        stage.host.run(world())

    assert str(caught.value) == (
        "The harness's event loop was stopped by code that runs in it.\n"
        "To fix this, do not call loop.stop() in the application, its world or the surface."
    )


def test_callbacks_that_schedule_themselves_for_ever_do_not_keep_the_others_from_going_on(stage: Any) -> None:
    ended = False

    def again() -> None:
        if not ended:
            asyncio.get_running_loop().call_soon(again)

    async def act() -> str:
        again()
        await pause(3)
        return "fine"

    played = stage.run(act, harmless, walk=1)
    ended = True

    assert (played.answers(0), played.answers(1)) == (["fine"], ["fine"])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@pytest.mark.parametrize("how", ["the factory", "a factory of its own"])
def test_eager_tasks_are_started_lazily_or_told(stage: Any, how: str) -> None:
    def own(loop: Any, coro: Any, **options: Any) -> Any:
        return asyncio.Task(coro, loop=loop, eager_start=True, **options)  # type: ignore[call-arg]

    async def act() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(own if how == "a factory of its own" else asyncio.eager_task_factory)  # type: ignore[attr-defined]
        await asyncio.gather(pause(), pause())

    played = stage.run(act, act, walk=1)

    assert stage.loop.saw_eager_tasks
    assert played.trouble is None
    if how == "the factory":
        assert {lane for user, lane in played.trace if user == 0} == {0, 1, 2}


# -- an interrupt ------------------------------------------------------------------------------------


def test_an_interrupt_in_the_middle_of_a_run_leaves_nothing_behind(staged: Callable[..., Any]) -> None:
    ended: list[str] = []
    before = (threading.active_count(), len(os.listdir("/proc/self/fd")))

    async def interrupted() -> None:
        try:
            await pause(2)
            os.kill(os.getpid(), signal.SIGINT)
            await pause(50)
        finally:
            ended.append("interrupted")

    async def other() -> None:
        try:
            while True:
                await pause()
        finally:
            ended.append("other")

    def begin() -> Coroutine[Any, Any, Any]:
        made: Coroutine[Any, Any, Any] = stage.make([interrupted, other], walk=1).perform()
        return made

    with pytest.raises(KeyboardInterrupt), staged() as stage:
        stage.host.run(begin())

    assert sorted(ended) == ["interrupted", "other"]
    assert asyncio.all_tasks(stage.loop) == set()
    assert stage.loop.is_closed()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before
