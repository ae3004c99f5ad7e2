"""Which worker thread does a piece of work: the first that is free."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from pytest_ssot_isolation.engine.host import Host
from pytest_ssot_isolation.engine.workers import MOST, Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers("tried")
    yield made
    made.shutdown()


def own_number() -> str:
    return threading.current_thread().name.rpartition("-")[2].partition("_")[0]


def test_one_piece_of_work_after_another_is_done_by_the_same_thread(workers: Workers) -> None:
    assert {workers.submit(own_number).result() for _ in range(200)} == {"0"}


def test_two_at_once_have_a_thread_each_and_the_first_that_is_free_is_next(workers: Workers) -> None:
    held = threading.Event()
    first = workers.submit(held.wait, 10)
    assert workers.submit(own_number).result() == "1"
    held.set()
    assert first.result()
    assert workers.submit(own_number).result() == "0"


def test_a_thread_is_not_free_before_the_loop_was_told(workers: Workers) -> None:
    loop = asyncio.new_event_loop()
    told = loop.create_future()
    workers.submit(own_number).result()
    workers.awaited(told)
    assert workers.submit(own_number).result() == "1"
    told.set_result(None)
    assert workers.submit(own_number).result() == "0"
    loop.close()


def test_no_more_threads_than_the_most_are_started_and_all_work_is_done(workers: Workers) -> None:
    held = threading.Event()
    at_work = [workers.submit(held.wait, 10) for _ in range(2 * MOST + 3)]
    assert len(workers.threads) == MOST
    held.set()
    assert all(each.result() for each in at_work)


def test_after_its_end_it_takes_no_work_and_leaves_no_thread() -> None:
    workers = Workers("ended")
    workers.submit(own_number).result()
    threads = workers.threads
    workers.shutdown()

    assert not any(thread.is_alive() for thread in threads)
    unused = Workers("unused")
    unused.shutdown()
    for ended in (workers, unused):
        with pytest.raises(RuntimeError, match="after shutdown"):
            ended.submit(own_number)
        assert not any(thread.is_alive() for thread in ended.threads)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_in_a_loop_two_threads_take_turns_only_where_both_are_needed(kind: str) -> None:
    async def alone() -> set[str]:
        return {await asyncio.to_thread(own_number) for _ in range(100)}

    def slow() -> str:
        time.sleep(0.01)
        return own_number()

    async def both() -> tuple[str, str]:
        first, second = await asyncio.gather(asyncio.to_thread(slow), asyncio.to_thread(slow))
        return first, second

    with Host(kind) as host:
        assert host.run(alone()) == {"0"}
        assert host.run(both()) == ("0", "1")
        assert host.run(alone()) == {"0"}
