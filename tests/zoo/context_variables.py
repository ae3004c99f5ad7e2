"""Family 6: a ContextVar that is lost, kept too long, or shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from pydantic import BaseModel

from pytest_ssot_isolation.generation.strategies import secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit
from .web import CurrentUser, WebUser

# -- set by a worker and not reset when the job fails --------------------------------------------------------

_owner: ContextVar[str] = ContextVar("owner", default="public")


@dataclass
class Job:
    user: str | None
    work: Callable[[], Awaitable[Any]]
    done: asyncio.Future[Any]


class Desk:
    """One worker does all jobs; those of a signed-in user run as that user, others as the public."""

    def __init__(self) -> None:
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._notes: dict[str, list[str]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Desk]:
        worker = asyncio.create_task(self._serve())
        try:
            yield self
        finally:
            worker.cancel()

    async def _serve(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                result = await self.perform(job)
            except ValueError as error:
                if not job.done.done():
                    job.done.set_exception(error)
            else:
                if not job.done.done():
                    job.done.set_result(result)

    async def perform(self, job: Job) -> Any:
        if job.user is None:
            return await job.work()
        token = _owner.set(job.user)
        try:
            return await job.work()
        finally:
            _owner.reset(token)

    async def submit(self, user: str | None, work: Callable[[], Awaitable[Any]]) -> Any:
        done = asyncio.get_running_loop().create_future()
        await self._jobs.put(Job(user, work, done))
        return await done

    async def keep(self, text: str) -> None:
        if len(text) > 30:
            raise ValueError("the note is too long")
        self._notes.setdefault(_owner.get(), []).append(text)

    async def look(self) -> list[str]:
        return list(self._notes.get(_owner.get(), ()))


class DeskWithoutFinally(Desk):
    async def perform(self, job: Job) -> Any:
        if job.user is None:
            return await job.work()
        token = _owner.set(job.user)
        result = await job.work()
        _owner.reset(token)
        return result


class DeskUser(Surface[Desk]):
    @operation(text=secrets())
    async def keep(self, text: str) -> None:
        await self.world.submit(self.user.user_id, lambda: self.world.keep(text))

    @operation(text=secrets(wrap="a note that is too long: {}"), may_fail=True)
    async def keep_long(self, text: str) -> None:
        await self.world.submit(self.user.user_id, lambda: self.world.keep(text))

    @operation
    async def look(self) -> list[str]:
        notes: list[str] = await self.world.submit(self.user.user_id, self.world.look)
        return notes

    @operation
    async def look_at_public(self) -> list[str]:
        notes: list[str] = await self.world.submit(None, self.world.look)
        return notes


# -- a dict inside a ContextVar, shared by sibling tasks -----------------------------------------------------

_scope: ContextVar[dict[str, str]] = ContextVar("scope")


class Gateway:
    """Handles what comes over one link; each request in a task of its own, started in the link's context."""

    def __init__(self) -> None:
        self._requests: asyncio.Queue[tuple[str, str | None, asyncio.Future[list[str]]]] = asyncio.Queue()
        self._store: dict[str, list[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Gateway]:
        link = asyncio.create_task(self._serve())
        try:
            yield self
        finally:
            link.cancel()

    async def _serve(self) -> None:
        _scope.set({})
        while True:
            user, text, answer = await self._requests.get()
            task = asyncio.create_task(self._handle(user, text, answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def enter(self, user: str) -> None:
        _scope.set({"user": user})

    async def _handle(self, user: str, text: str | None, answer: asyncio.Future[list[str]]) -> None:
        self.enter(user)
        await asyncio.sleep(0)  # authorisation
        mine = self._store.setdefault(_scope.get()["user"], [])
        if text is not None:
            mine.append(text)
        if not answer.done():
            answer.set_result(list(mine))

    async def ask(self, user: str, text: str | None = None) -> list[str]:
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        await self._requests.put((user, text, answer))
        return await answer


class GatewayWithOneDict(Gateway):
    def enter(self, user: str) -> None:
        _scope.get()["user"] = user


class GatewayUser(Surface[Gateway]):
    @operation(text=secrets())
    async def put(self, text: str) -> None:
        await self.world.ask(self.user.user_id, text)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.ask(self.user.user_id)


# -- captured by a queue that was made in somebody's request -------------------------------------------------

_actor: ContextVar[str] = ContextVar("actor", default="nobody")


class Exports:
    """Exports run one after another in a worker that is started with the first."""

    def __init__(self) -> None:
        self._notes: dict[str, list[str]] = {}
        self._files: dict[str, list[str]] = {}
        self._queue: asyncio.Queue[tuple[str, asyncio.Future[None]]] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Exports]:
        try:
            yield self
        finally:
            if self._worker is not None:
                self._worker.cancel()

    def acting(self, user: str) -> str:
        return user

    async def _serve(self) -> None:
        while True:
            user, done = await self._queue.get()
            self._files.setdefault(user, []).extend(self._notes.get(self.acting(user), ()))
            if not done.done():
                done.set_result(None)

    async def note(self, user: str, text: str) -> None:
        self._notes.setdefault(user, []).append(text)

    async def export(self, user: str) -> list[str]:
        _actor.set(user)
        if self._worker is None:
            self._worker = asyncio.create_task(self._serve())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put((user, done))
        await done
        return self._files.pop(user, [])


class ExportsAsWhoStartedThem(Exports):
    def acting(self, user: str) -> str:
        return _actor.get()  # of the request that started the worker


class Exporter(Surface[Exports]):
    @operation(text=secrets())
    async def note(self, text: str) -> None:
        await self.world.note(self.user.user_id, text)

    @operation
    async def export(self) -> list[str]:
        return await self.world.export(self.user.user_id)


# -- set in a dependency, and read in a background task after it was lost ------------------------------------

_request_user: ContextVar[str] = ContextVar("request_user", default="")


class Text(BaseModel):
    text: str


def mail_app(*, passes_the_user: bool) -> FastAPI:
    """Sends a receipt after each order; both kinds of app work for the one user of a manual test."""
    app = FastAPI()
    orders: dict[str, list[str]] = {}
    receipts: dict[str, list[str]] = {}
    last_seen = {"user": ""}

    def remember(user: CurrentUser) -> str:
        # A plain dependency runs in a worker thread, so what it sets does not come back to the request.
        _request_user.set(user)
        last_seen["user"] = user
        return user

    async def send_receipt(text: str, user: str | None) -> None:
        await asyncio.sleep(0)
        to = user or _request_user.get() or last_seen["user"]
        receipts.setdefault(to, []).append(text)

    @app.post("/orders", status_code=202)
    async def order(
        body: Text, tasks: BackgroundTasks, request: Request, user: str = Depends(remember)
    ) -> None:
        orders.setdefault(user, []).append(body.text)
        tasks.add_task(send_receipt, body.text, user if passes_the_user else None)

    @app.get("/orders")
    async def mine(user: CurrentUser) -> list[str]:
        return orders.get(user, [])

    @app.get("/receipts")
    async def inbox(user: CurrentUser) -> list[str]:
        return receipts.get(user, [])

    return app


class Customer(WebUser):
    ignore = ("headers.content-length",)

    @operation(text=secrets())
    async def order(self, text: str) -> httpx.Response:
        return await self.http.post("/orders", json={"text": text})

    @operation
    async def orders(self) -> httpx.Response:
        return await self.http.get("/orders")

    @operation
    async def receipts(self) -> httpx.Response:
        return await self.http.get("/receipts")


EXHIBITS = {
    "not_reset_on_exception": Exhibit(
        surface=DeskUser, leaky=lambda: DeskWithoutFinally().running(), safe=lambda: Desk().running()
    ),
    "dict_shared_by_siblings": Exhibit(
        surface=GatewayUser, leaky=lambda: GatewayWithOneDict().running(), safe=lambda: Gateway().running()
    ),
    "captured_by_shared_worker": Exhibit(
        surface=Exporter, leaky=lambda: ExportsAsWhoStartedThem().running(), safe=lambda: Exports().running()
    ),
    "lost_before_background_task": Exhibit(
        surface=Customer,
        leaky=lambda: mail_app(passes_the_user=False),
        safe=lambda: mail_app(passes_the_user=True),
    ),
}
