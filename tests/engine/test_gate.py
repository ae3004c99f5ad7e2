"""One step at a time, in lanes of users, with virtual time; and what a run that cannot end says."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import re
import socket
import socketserver
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ssot_isolation.engine.choosers import RandomWalk
from pytest_ssot_isolation.engine.lanes import USER
from pytest_ssot_isolation.engine.waits import site_of
from pytest_ssot_isolation.model.history import Outcome
from pytest_ssot_isolation.model.schedule import CLOCK, Anchor, Pick, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


async def pause(times: int = 1) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


# -- one step at a time, chosen by the schedule ------------------------------------------------------


def test_without_choices_each_user_goes_on_until_the_call_ends(stage: Any) -> None:
    async def act() -> None:
        await pause(3)

    assert stage.run(act, act, act).users == "aaaabbbbcccc"


def test_a_choice_lets_another_user_go_on_at_that_place_and_nowhere_else(stage: Any) -> None:
    async def act() -> None:
        await pause(3)

    played = stage.run(act, act, schedule=Schedule(anchors=(Anchor((0, 0, 2), 1),)))

    assert played.users == "aabbbbaa"
    assert played.schedule.anchors == (Anchor((0, 0, 2), 1),)


def test_a_random_walk_gives_many_interleavings_of_one_program(stage: Any) -> None:
    async def act() -> None:
        await pause(2)

    assert len({stage.run(act, act, walk=seed).users for seed in range(60)}) > 12


def test_a_choice_whose_user_cannot_go_on_falls_back_to_the_natural_one(stage: Any) -> None:
    async def act() -> None:
        await pause(1)

    played = stage.run(act, act, schedule=Schedule(anchors=(Anchor((0, 0, 1), 7),)))

    assert played.users == "aabb"
    assert played.schedule.anchors == ()


def test_two_steps_may_share_a_tick_so_that_a_loader_can_gather_two_users(stage: Any) -> None:
    batches: list[list[int]] = []
    waiting: list[int] = []

    async def load() -> None:
        waiting.append(USER.get() or 0)
        if len(waiting) == 1:
            asyncio.get_running_loop().call_soon(flush)
        await pause(2)

    def flush() -> None:
        batches.append(list(waiting))
        waiting.clear()

    for seed in range(200):
        stage.run(load, load, walk=seed)
        if [0, 1] in [sorted(batch) for batch in batches]:
            break
    else:
        pytest.fail("no walk put two users into one batch")


# -- lanes -------------------------------------------------------------------------------------------


def test_tasks_that_a_user_starts_inherit_the_users_lane_however_they_are_started(stage: Any) -> None:
    whose: list[tuple[str, int | None]] = []

    async def child(how: str) -> None:
        await pause()
        whose.append((how, USER.get()))

    async def act() -> None:
        await asyncio.create_task(child("create_task"))
        await asyncio.gather(child("gather"), child("gather"))
        async with asyncio.TaskGroup() as group:
            group.create_task(child("TaskGroup"))
        await asyncio.wait_for(child("wait_for"), 5)
        await asyncio.shield(child("shield"))
        await asyncio.wait([asyncio.ensure_future(child("wait"))])

    played = stage.run(act, act, walk=3)

    assert played.trouble is None
    ways = {"create_task": 1, "gather": 2, "TaskGroup": 1, "wait_for": 1, "shield": 1, "wait": 1}
    assert Counter(whose) == {(how, user): times for how, times in ways.items() for user in (0, 1)}


def test_lanes_are_numbered_within_their_user_in_the_order_of_their_first_step(stage: Any) -> None:
    async def act() -> None:
        await asyncio.gather(pause(), pause())

    played = stage.run(act, act)

    assert {key for key in played.trace if key[0] == 0} == {(0, 0), (0, 1), (0, 2)}
    assert {key for key in played.trace if key[0] == 1} == {(1, 0), (1, 1), (1, 2)}


def test_what_a_user_started_before_the_run_has_its_lane_before_the_calls_whenever_it_wakes(
    stage: Any,
) -> None:
    event = asyncio.Event()
    home = contextvars.copy_context()
    home.run(USER.set, 0)

    async def sign_in() -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(event.wait(), context=home)

    async def act() -> None:
        await pause()
        event.set()
        await listener

    listener = stage.host.run(sign_in())
    played = stage.run(act)

    assert played.trace == ((0, 1), (0, 1), (0, 0), (0, 1))


def test_a_task_without_a_user_is_scheduled_too(stage: Any) -> None:
    served: asyncio.Queue[asyncio.Future[int]] = asyncio.Queue()

    async def server() -> None:
        while True:
            (await served.get()).set_result(1)

    started: list[asyncio.Task[None]] = []

    async def begin() -> None:
        started.append(asyncio.get_running_loop().create_task(server()))

    async def act() -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await served.put(answer)
        return await answer

    stage.host.run(begin())
    played = stage.run(act, act, walk=1)

    assert played.answers(0) == [1]
    assert "." in played.users
    started[0].cancel()


def test_a_worker_thread_knows_whose_code_it_runs(stage: Any) -> None:
    async def act() -> int | None:
        return await asyncio.get_running_loop().run_in_executor(None, USER.get)

    played = stage.run(act, act, walk=1)

    assert (played.answers(0), played.answers(1)) == ([0], [1])


def test_a_task_factory_of_the_application_is_used(stage: Any) -> None:
    made: list[str] = []

    def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro.__qualname__)
        return asyncio.Task(coro, loop=loop, **options)

    async def act() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        await asyncio.gather(pause(), pause())

    played = stage.run(act, act, walk=2)

    assert made.count("pause") >= 3
    assert {user for user, _ in played.trace} == {0, 1}


# -- several tasks of one user -----------------------------------------------------------------------


def test_which_of_a_users_own_tasks_goes_on_is_a_choice_that_can_be_recorded(stage: Any) -> None:
    order: list[str] = []

    async def child(name: str) -> None:
        await pause(1)
        order.append(name)

    async def act() -> None:
        await asyncio.gather(child("x"), child("y"))

    def played(**chosen: Any) -> Any:
        order.clear()
        return stage.run(act, **chosen), tuple(order)

    natural, first = played()
    assert (natural.schedule.picks, first) == ((), ("x", "y"))
    seen = {}
    for seed in range(40):
        run, told = played(walk=seed)
        seen[told] = run
    assert set(seen) == {("x", "y"), ("y", "x")}
    chosen = seen["y", "x"]
    assert chosen.schedule.picks
    again, told = played(schedule=chosen.schedule)
    assert (told, again.trace, again.schedule) == (("y", "x"), chosen.trace, chosen.schedule)


def test_tasks_of_the_application_take_turns_by_choice_too(stage: Any) -> None:
    order: list[str] = []

    async def handle(name: str) -> None:
        await pause(1)
        order.append(name)

    async def act() -> None:
        apart = contextvars.Context()
        tasks = [apart.run(asyncio.create_task, handle(name)) for name in "xy"]
        await asyncio.gather(*tasks)

    seen = set()
    for seed in range(40):
        order.clear()
        stage.run(act, walk=seed)
        seen.add(tuple(order))

    assert seen == {("x", "y"), ("y", "x")}


def test_a_choice_of_a_task_that_is_not_there_falls_back_to_the_natural_one(stage: Any) -> None:
    async def act() -> None:
        await pause(1)

    played = stage.run(act, schedule=Schedule(picks=(Pick((0, 0, 1), 1),)))

    assert played.users == "aa"
    assert played.schedule.picks == ()


# -- virtual time"""


# -- time --------------------------------------------------------------------------------------------


def test_a_long_sleep_takes_no_real_time_and_the_loops_clock_shows_it(stage: Any) -> None:
    async def act() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(3600)
        return loop.time() - before

    began = time.monotonic()
    played = stage.run(act, act)

    assert played.answers(0) == [pytest.approx(3600)]
    assert played.answers(1) == [pytest.approx(3600)]
    assert time.monotonic() - began < 5


def test_timers_fire_in_the_order_of_their_times(stage: Any) -> None:
    woke: list[int] = []

    def sleeper(seconds: int) -> Callable[[], Any]:
        async def act() -> None:
            await asyncio.sleep(seconds)
            woke.append(seconds)

        return act

    stage.run(sleeper(30), sleeper(10), sleeper(20))

    assert woke == [10, 20, 30]


def test_a_time_out_ends_a_longer_sleep_in_virtual_time(stage: Any) -> None:
    async def act() -> str:
        try:
            async with asyncio.timeout(60):
                await asyncio.sleep(600)
        except TimeoutError:
            return "timed out"
        return "slept"

    async def other() -> str:
        try:
            await asyncio.wait_for(asyncio.sleep(600), 60)
        except TimeoutError:
            return "timed out"
        return "slept"

    played = stage.run(act, other)

    assert (played.answers(0), played.answers(1)) == (["timed out"], ["timed out"])


def test_a_time_out_does_not_end_a_shorter_sleep(stage: Any) -> None:
    async def act() -> str:
        async with asyncio.timeout(60):
            await asyncio.sleep(59)
        return "slept"

    assert stage.run(act, act, walk=4).answers(0) == ["slept"]


def test_a_timer_set_by_a_callback_of_a_step_is_virtual_too(stage: Any) -> None:
    async def act() -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        loop.call_soon(lambda: loop.call_later(600, answer.set_result, "rang"))
        return await answer

    began = time.monotonic()
    assert stage.run(act, act).answers(0) == ["rang"]
    assert time.monotonic() - began < 5


def test_letting_time_pass_is_a_choice_although_somebody_could_go_on(stage: Any) -> None:
    order: list[str] = []

    async def sleeper() -> None:
        await asyncio.sleep(1)
        order.append("woke")

    async def worker() -> None:
        await pause(2)
        order.append("worked")

    stage.run(sleeper, worker)
    assert order == ["worked", "woke"]
    order.clear()
    stage.run(sleeper, worker, schedule=Schedule(anchors=(Anchor((1, 1, 1), CLOCK), Anchor((1, 1, 2), 0))))
    assert order == ["woke", "worked"]


def test_virtual_time_does_not_run_ahead_of_a_reply_that_is_due(stage: Any) -> None:
    async def act() -> str:
        async with asyncio.timeout(1):
            await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.1)
        return "in time"

    async def other() -> str:
        await asyncio.sleep(0.01)
        return "slept"

    played = stage.run(act, other)

    assert (played.answers(0), played.answers(1)) == (["in time"], ["slept"])


def test_outside_of_steps_time_is_real(stage: Any) -> None:
    async def two_reals() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(0.02)
        return loop.time() - before

    assert 0.015 < stage.host.run(two_reals()) < 5


def test_timers_that_a_run_leaves_behind_go_on_in_real_time(stage: Any) -> None:
    rang: list[str] = []

    async def act() -> None:
        asyncio.get_running_loop().call_later(0.02, rang.append, "rang")

    stage.run(act)
    assert rang == []
    stage.host.run(asyncio.sleep(0.1))
    assert rang == ["rang"]


# -- settling ----------------------------------------------------------------------------------------


def test_a_reply_from_a_thread_is_waited_for_before_the_next_choice(stage: Any) -> None:
    def slow(milliseconds: float) -> float:
        time.sleep(milliseconds / 1000)
        return milliseconds

    def caller(delays: list[float]) -> Callable[[], Any]:
        async def act() -> None:
            for delay in delays:
                await asyncio.get_running_loop().run_in_executor(None, slow, delay)
                await pause()

        return act

    quick, sluggish = [0.1, 3.0, 0.1], [3.0, 0.1, 3.0]
    first = stage.run(caller(quick), caller(sluggish), walk=9)
    second = stage.run(caller(sluggish), caller(quick), walk=9)

    assert first.users == second.users
    assert first.schedule.blocked == ()


def test_a_lane_that_never_hears_from_outside_does_not_hold_up_the_others_for_ever(stage: Any) -> None:
    gate = threading.Event()

    async def waits() -> None:
        await asyncio.get_running_loop().run_in_executor(None, gate.wait, 10)

    async def opens() -> None:
        await pause(2)
        gate.set()

    played = stage.run(waits, opens)

    assert played.trouble is None
    assert played.schedule.blocked != ()


def test_the_servers_word_that_somebody_waits_for_a_lock_ends_the_wait_sooner(stage: Any) -> None:
    asked: list[float] = []
    gate = threading.Event()

    def blocked() -> int:
        asked.append(time.monotonic())
        return 1

    async def waits() -> None:
        await asyncio.get_running_loop().run_in_executor(None, gate.wait, 10)

    async def opens() -> None:
        await pause(1)
        gate.set()

    stage.set(blocked=blocked)
    played = stage.run(waits, opens)

    assert played.trouble is None
    assert asked


# -- runs that cannot end ----------------------------------------------------------------------------


def test_a_deadlock_is_told_at_once_with_the_place_where_each_user_waits(stage: Any) -> None:
    locks: list[asyncio.Lock] = [asyncio.Lock(), asyncio.Lock()]

    def taker(first: int, second: int) -> Callable[[], Any]:
        async def act() -> None:
            async with locks[first]:
                await pause()
                async with locks[second]:
                    pass

        return act

    began = time.monotonic()
    played = stage.run(taker(0, 1), taker(1, 0), schedule=Schedule(anchors=(Anchor((0, 0, 1), 1),)))

    assert played.trouble is not None
    assert played.trouble.kind == "deadlock"
    assert played.trouble.users == (0, 1)
    assert played.trouble.text.count("engine/test_gate.py") == 2
    assert played.trouble.text.startswith(
        "Deadlock: no task can go on, and nothing outside is due.\nalice: waits on"
    )
    assert time.monotonic() - began < 1
    assert played.outcomes(0) == [Outcome.FAILED]


def test_a_wake_up_that_was_lost_is_a_deadlock(stage: Any) -> None:
    async def act() -> None:
        await asyncio.get_running_loop().create_future()

    async def fine() -> int:
        await pause()
        return 1

    played = stage.run(act, fine)

    assert played.trouble is not None
    assert (played.trouble.kind, played.trouble.users) == ("deadlock", (0,))
    assert "alice: waits on a future that nobody explains" in played.trouble.text
    assert played.answers(1) == [1]


class Taking:
    """Is awaited through a coroutine of its own, as is what ``pool.acquire()`` gives."""

    def __await__(self) -> Any:
        return asyncio.Queue().get().__await__()


@pytest.mark.parametrize("take", [lambda: asyncio.Queue().get(), Taking], ids=["coroutine", "awaitable"])
def test_a_queue_that_nobody_fills_is_a_deadlock_although_a_socket_is_open(
    stage: Any, take: Callable[[], Any]
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def act() -> None:
        await take()

    async def open_a_socket() -> tuple[Any, Any]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        return server, await asyncio.open_connection(*server.sockets[0].getsockname())

    server, (_, writer) = stage.host.run(open_a_socket())
    began = time.monotonic()
    played = stage.run(act, act)
    took = time.monotonic() - began
    writer.close()
    server.close()
    stage.host.run(asyncio.sleep(0.05))

    assert played.trouble is not None
    assert played.trouble.kind == "deadlock"
    assert took < 1


def test_a_timer_of_minutes_that_an_earlier_run_left_hides_no_deadlock(stage: Any) -> None:
    async def leave() -> None:
        asyncio.get_running_loop().call_later(300, str)

    async def act() -> None:
        await asyncio.Queue().get()

    stage.run(leave)
    played = stage.run(act, act)

    assert played.trouble is not None
    assert played.trouble.kind == "deadlock"


async def plainly(reading: Any) -> Any:
    return await reading


async def look_up_now_and_then(reading: Any) -> Any:
    """As some drivers do while they wait, to see an interrupt."""
    task = asyncio.ensure_future(reading)
    while not task.done():
        await asyncio.wait([task], timeout=0.05)
    return await task


@pytest.mark.parametrize("wait", [plainly, look_up_now_and_then], ids=["at once", "in pieces"])
def test_an_answer_that_never_comes_from_outside_is_stuck(stage: Any, wait: Callable[..., Any]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def act() -> Any:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            writer.write(b"hello")
            return await wait(reader.read(1))
        finally:
            writer.close()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0)

    server = stage.host.run(start())
    stage.set(patience=0.3)
    played = stage.run(act)
    server.close()
    stage.host.run(asyncio.sleep(0.02))

    assert played.trouble is not None
    assert played.trouble.kind == "stuck"
    assert "alice: waits on the outside world" in played.trouble.text


def test_calls_that_never_end_are_given_up_after_a_number_of_steps(stage: Any) -> None:
    async def act() -> None:
        while True:
            await pause()

    stage.set(most_steps=300)
    played = stage.run(act, act, walk=1)

    assert played.trouble is not None
    assert played.trouble.text.startswith("Stuck: the calls had not ended after 300 steps.")


def test_many_calls_that_each_end_are_not_given_up_however_many_steps_they_take(stage: Any) -> None:
    async def act() -> None:
        for _ in range(150):
            await pause()

    stage.set(most_steps=300)
    played = stage.run(act, act, act)

    assert played.trouble is None
    assert len(played.trace) > 300


def test_an_application_that_sleeps_for_ever_is_given_up_too(stage: Any) -> None:
    async def act() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(60)

    stage.set(most_steps=300)
    played = stage.run(act, act)

    assert played.trouble is not None
    assert played.trouble.kind == "stuck"


def test_where_a_task_waits_is_told_by_the_applications_own_place(stage: Any) -> None:
    async def reads() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.StreamReader().readline()

    async def act() -> str:
        task = asyncio.create_task(reads())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        place = site_of(task)
        await task
        return place

    played = stage.run(act)

    assert re.fullmatch(r"engine/test_gate.py:\d+ in .*\.reads", played.answers(0)[0])


def test_a_step_comes_behind_the_callbacks_that_were_queued_before_it_also_in_a_shared_tick(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RandomWalk, "goes_together", lambda walk, at: True)
    order: list[str] = []

    async def act() -> None:
        await asyncio.sleep(0)
        # As a cancelled connect does: its socket has to leave the loop before the task goes on and closes it.
        asyncio.get_running_loop().call_soon(order.append, "callback")
        await asyncio.sleep(0)
        order.append("step")

    for walk in range(20):
        order.clear()
        stage.run(act, act, walk=walk)

        seen = 0
        for each in order:
            seen += 1 if each == "callback" else -1
            assert seen >= 0, order


# -- what a server outside does, and when ------------------------------------------------------------


@contextlib.contextmanager
def echo(after: float = 0.0) -> Iterator[int]:
    """A server in a thread that sends each line back, and to whoever said "listen", so many seconds later."""
    listeners: list[Any] = []

    class Line(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            for line in self.rfile:
                if line == b"listen\n":
                    listeners.append(self)
                    continue
                time.sleep(after)
                for told in (*listeners, self):
                    told.wfile.write(line)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Line) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_fast_server_and_a_slow_one_give_the_same_steps(stage: Any) -> None:
    async def once(port: int) -> Any:
        async with contextlib.AsyncExitStack() as stack:
            streams = []
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                stack.callback(writer.close)
                streams.append((reader, writer))

            async def act() -> bytes:
                reader, writer = streams[USER.get() or 0]
                writer.write(b"hello\n")
                time.sleep(0.01)  # noqa: ASYNC251  the fast server's reply lies in the socket by now
                await pause(2)
                return await reader.readline()

            return await stage.make([act, act], walk=3, calls=2).perform()

    traces = set()
    for after in (0.0, 0.02):
        with echo(after) as port:
            history = stage.host.run(once(port))
            assert [o.seen for o in history.observations if o.channel == "result"] == [b"hello\n"] * 4
            traces.add(history.trace)

    assert len(traces) == 1
    # To begin, to pause twice, to read, and to have read: the reply was waited for, however early it came.
    assert len(traces.pop()) == 4 * 4


def test_whether_steps_share_a_tick_is_asked_once_at_each_place_whatever_a_server_sends(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(RandomWalk, "goes_together", lambda _walk, at: asked.append(at))

    async def once(port: int, walk: int) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"listen\n")

        async def listen() -> None:
            while await reader.readline():
                await pause(3)

        ear = asyncio.create_task(listen())

        async def act() -> None:
            mine, out = await asyncio.open_connection("127.0.0.1", port)
            out.write(b"hello\n")
            await pause(4)
            await mine.readline()
            await pause(4)
            out.close()

        try:
            return await stage.make([act, act, act], walk=walk).perform()
        finally:
            ear.cancel()
            writer.close()

    with echo() as port:
        for walk in range(15):
            asked.clear()
            history = stage.host.run(once(port, walk))
            assert history.trouble is None
            assert Counter(asked).most_common(1)[0][1] == 1


def test_a_socket_that_woke_a_user_is_left_alone_until_that_user_goes_on(stage: Any) -> None:
    woken: list[str] = []

    async def readable(connection: socket.socket) -> None:
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            woken.append("alice")
            ready.set()

        loop.add_reader(connection, wake)
        await ready.wait()
        assert loop.remove_reader(connection)
        assert not loop.remove_reader(connection)

    async def once(fast: int, slow: int) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", slow)

        async def alice() -> bytes:
            connection.sendall(b"hello\n")
            await readable(connection)
            await readable(connection)  # Still there: nobody has read it.
            return connection.recv(6)

        async def bob() -> bytes:
            writer.write(b"hello\n")
            return await reader.readline()

        with socket.create_connection(("127.0.0.1", fast)) as connection:
            connection.setblocking(False)
            try:
                return await stage.make(
                    [alice, bob], schedule=Schedule(anchors=(Anchor((0, 0, 1), 1),))
                ).perform()
            finally:
                writer.close()

    with echo() as fast, echo(after=0.02) as slow:
        history = stage.host.run(once(fast, slow))

    assert [o.seen for o in history.observations if o.channel == "result"] == [b"hello\n"] * 2
    assert woken == ["alice"] * 2
