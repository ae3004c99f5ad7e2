"""Applications that are correct: whatever a check of them reports as a leak is a false alarm."""

from __future__ import annotations

import asyncio
import datetime
import random
import time
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pytest_ssot_isolation import Surface, observed, operation, secrets
from pytest_ssot_isolation.engine import findings
from pytest_ssot_isolation.model.history import History
from pytest_ssot_isolation.model.schedule import APP
from pytest_ssot_isolation.model.verdict import Finding, Verdict
from tests.harness.conftest import Check

EVERY_ORACLE = ("canary", "noninterference", "integrity", "availability", "residue", "aliasing")


class Jobs:
    """A task in the background for each job, whose owner asks how far it is."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, str]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Jobs:
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def submit(self, user: str, payload: str) -> str:
        number = uuid.uuid4().hex
        job = self.jobs[number] = {"owner": user, "payload": payload, "status": "queued", "result": ""}
        task = asyncio.create_task(self._work(job))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return number

    async def _work(self, job: dict[str, str]) -> None:
        job["status"] = "running"
        await asyncio.sleep(0.02)
        job.update(result=job["payload"].upper(), status="done")

    def job_of(self, user: str, number: str) -> dict[str, str]:
        job = self.jobs.get(number)
        if job is None or job["owner"] != user:
            raise LookupError(f"no job {number}")
        return job

    async def wait(self, user: str, number: str) -> str:
        for _ in range(50):
            if self.job_of(user, number)["status"] == "done":
                return self.job_of(user, number)["result"]
            await asyncio.sleep(0.01)
        raise TimeoutError(number)


class JobsOfTwoWorkers(Jobs):
    """The same with a queue: what is before a user's job in it may be somebody else's."""

    async def __aenter__(self) -> JobsOfTwoWorkers:
        self.queue: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.tasks.update(asyncio.create_task(self._serve()) for _ in range(2))
        return self

    async def submit(self, user: str, payload: str) -> str:
        number = uuid.uuid4().hex
        job = self.jobs[number] = {"owner": user, "payload": payload, "status": "queued", "result": ""}
        await self.queue.put(job)
        return number

    async def _serve(self) -> None:
        while True:
            await self._work(await self.queue.get())


class Customer(Surface[Jobs]):
    @operation(payload=secrets())
    async def submit(self, payload: str) -> str:
        return await self.world.submit(self.user.user_id, payload)

    @operation(job=observed("submit"))
    async def result(self, job: str) -> str:
        return await self.world.wait(self.user.user_id, job)

    @operation(job=observed("submit"))
    async def status(self, job: str) -> str:
        return self.world.job_of(self.user.user_id, job)["status"]


class CustomerWithPatience(Customer):
    shared = ("status:*",)  # Others may be before one's job in the queue, and that is meant.


class Limited(Exception):
    """Too many calls in a second."""


class Notes:
    """Notes of several users, who may make four calls a second."""

    def __init__(self) -> None:
        self.calls: defaultdict[str, deque[float]] = defaultdict(deque)
        self.notes: defaultdict[str, list[str]] = defaultdict(list)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @asynccontextmanager
    async def admitted(self, user: str) -> AsyncIterator[list[str]]:
        now, calls = self.now(), self.calls[user]
        while calls and calls[0] < now - 1:
            calls.popleft()
        if len(calls) >= 4:
            raise Limited(f"try again in {calls[0] + 1 - now:.3f} s")
        calls.append(now)
        await asyncio.sleep(0)
        yield self.notes[user]


class ByTheWallClock(Notes):
    """The same, with a clock that is not virtual."""

    def now(self) -> float:
        return time.monotonic()


class OneConnection(Notes):
    """A pool of one connection, for which nobody waits for long."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Semaphore(1)

    @asynccontextmanager
    async def admitted(self, user: str) -> AsyncIterator[list[str]]:
        try:
            await asyncio.wait_for(self.free.acquire(), 0.015)
        except TimeoutError:
            raise RuntimeError("503 service unavailable, try again") from None
        try:
            await asyncio.sleep(0.01)
            yield self.notes[user]
        finally:
            self.free.release()


class Writer(Surface[Notes]):
    @operation(body=secrets())
    async def write(self, body: str) -> int:
        async with self.world.admitted(self.user.user_id) as notes:
            notes.append(body)
            return len(notes)

    @operation
    async def mine(self) -> list[str]:
        async with self.world.admitted(self.user.user_id) as notes:
            return list(notes)

    @operation
    async def rest(self) -> None:
        await asyncio.sleep(0.5)


class Letters:
    """Everybody's letters go through one task of the application's own, which delivers them when it comes to it."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.boxes: dict[str, list[str]] = defaultdict(list)

    async def deliver(self) -> None:
        while True:
            to, text = await self.sent.get()
            self.boxes[to].append(text)

    async def send(self, to: str, text: str) -> None:
        await self.sent.put((to, text))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Letters]:
        letters = cls()
        postman = asyncio.create_task(letters.deliver())
        yield letters
        postman.cancel()


class LetterWriter(Surface[Letters]):
    @operation(text=secrets())
    async def note_to_self(self, text: str) -> None:
        await self.world.send(self.user.user_id, text)

    @operation
    async def empty_the_box(self) -> list[str]:
        return self.world.boxes.pop(self.user.user_id, [])


class Chatter(Surface[defaultdict[str, list[str]]]):
    """Answers with all that differs from run to run."""

    @operation(body=secrets())
    async def write(self, body: str) -> dict[str, Any]:
        self.world[self.user.user_id].append(body)
        return {"id": uuid.uuid4(), "at": datetime.datetime.now(), "etag": uuid.uuid4().hex[:12]}

    @operation
    async def tags(self) -> list[str]:
        return list({*self.world[self.user.user_id], "a", "b", "c", self.user.user_id})

    @operation
    async def tossed(self) -> bool:
        return random.random() < 0.5

    @operation
    async def headers(self) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.UTC)
        return {"modified": f"{now:%a, %d %b %Y %H:%M:%S GMT}", "took": f"{random.random():.4f} ms"}

    @operation(may_fail=True)
    async def fail(self) -> None:
        raise ValueError(f"{object()!r} failed at {datetime.datetime.now()}, request {uuid.uuid4()}")


@pytest.mark.parametrize("faults", [(), "all"], ids=["calm", "faults"])
@pytest.mark.parametrize(
    ("surface", "world", "examples"),
    [
        (Customer, Jobs, 150),
        (CustomerWithPatience, JobsOfTwoWorkers, 150),
        (Writer, Notes, 200),
        (Writer, ByTheWallClock, 200),
        (Writer, OneConnection, 40),
        (LetterWriter, Letters.running, 300),
        (Chatter, lambda: defaultdict(list), 150),
    ],
    ids=[
        "jobs in the background",
        "jobs of two workers",
        "rate limit",
        "rate limit by the wall clock",
        "one connection",
        "a task that delivers",
        "noise",
    ],
)
def test_a_correct_application_is_no_leak(
    check: Check, surface: Any, world: Any, examples: int, faults: Any
) -> None:
    report = check(surface, world=world, faults=faults, oracles=EVERY_ORACLE, examples=examples, seed=11)

    assert [f.explanation for f in report.findings if f.severity == "leak"] == []
    assert report.verdict is Verdict.CLEAN


def test_what_workers_did_is_to_be_declared_or_fixed() -> None:
    finding = Finding(oracle="noninterference", operation="status", explanation="bob sees queued")

    assert findings._perhaps_load(finding).explanation == (
        "bob sees queued. Where users share workers, how far a job is hangs on the load of others: "
        'if that is meant, declare it (shared = ("status:*",)), else fix it'
    )


@pytest.mark.parametrize(("path", "has"), [(((0, 1, 1), (APP, 1, 2)), True), (((0, 1, 1),), False)])
def test_workers_are_tasks_that_belong_to_no_user(path: Any, has: bool) -> None:
    assert History(principals=(), path=path).has_workers is has


def test_what_is_spent_on_findings_in_all_is_bounded_and_told(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "MOST_IN_ALL", 0.0)

    report = check(mistake="key forgets the user", examples=20)

    assert report.verdict is Verdict.LEAK
    assert {f.shrunk.rpartition(" (")[2] for f in report.findings} == {
        "cut short after 0 s for all findings)"
    }
    assert all("the same in 1 of 1 replays" in f.shrunk for f in report.findings if f.severity == "leak")
