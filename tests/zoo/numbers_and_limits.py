"""Families 2, 3, 4, 6, 8 and 13 where no secret is shown: a count, a limit, a lost write, a worker that is gone."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI, Response
from pydantic import BaseModel

from pytest_ssot_isolation.generation.strategies import secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit
from .http_caches import SharedCache
from .web import CurrentUser, WebUser

# -- family 2: who gave up is taken out of the line, though the reply will come ------------------------------


class CountingServer:
    """Answers lines over TCP: ``HIT user page`` counts a visit and says how many there were, ``COUNT`` only says."""

    def __init__(self) -> None:
        self._visits: dict[str, int] = {}
        self._open: set[asyncio.StreamWriter] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(ConnectionError, asyncio.CancelledError):
            while line := await reader.readline():
                verb, _, who = line.decode().strip().partition(" ")
                if verb == "HIT":
                    self._visits[who] = self._visits.get(who, 0) + 1
                writer.write(b"%d\n" % self._visits.get(who, 0))
                await writer.drain()
        self._open.discard(writer)
        writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for writer in list(self._open):
                writer.close()


class Multiplexer:
    """One connection for all requests; replies come in the order of the requests, and so do those who wait."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: deque[asyncio.Future[int]] = deque()

    @classmethod
    @asynccontextmanager
    async def connected(cls) -> AsyncIterator[Multiplexer]:
        async with CountingServer().listening() as port:
            made = cls(*await asyncio.open_connection("127.0.0.1", port))
            reading = asyncio.create_task(made.read())
            try:
                yield made
            finally:
                reading.cancel()
                made._writer.close()

    async def read(self) -> None:
        while line := await self._reader.readline():
            if self._waiting:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(int(line))

    async def ask(self, *words: str) -> int:
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._writer.write(" ".join(words).encode() + b"\n")
        try:
            return await waiter
        except asyncio.CancelledError:
            self.gave_up(waiter)
            raise

    def gave_up(self, waiter: asyncio.Future[int]) -> None:
        """Its reply will come nonetheless, and has to find it in its place."""


class MultiplexerThatForgetsWhoGaveUp(Multiplexer):
    def gave_up(self, waiter: asyncio.Future[int]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)


class Visited(Surface[Multiplexer]):
    @operation
    async def hit(self) -> int:
        return await self.world.ask("HIT", self.user.user_id.encode().hex())

    @operation
    async def count(self) -> int:
        return await self.world.ask("COUNT", self.user.user_id.encode().hex())


# -- family 3: a query object that is used again, and keeps its limit ----------------------------------------


@dataclass
class Query:
    owner: str = ""
    limit: int | None = None

    def clear(self) -> None:
        self.owner, self.limit = "", None


class QueryThatKeepsItsLimit(Query):
    def clear(self) -> None:
        self.owner = ""


class Inbox:
    """Takes queries from a free list."""

    def __init__(self, query: type[Query]) -> None:
        self._make = query
        self._free: list[Query] = []
        self._mails: list[tuple[str, str]] = []

    async def keep(self, user: str, text: str) -> None:
        self._mails.append((user, text))

    async def read(self, user: str, *, newest_only: bool = False) -> list[str]:
        query = self._free.pop() if self._free else self._make()
        query.clear()
        query.owner = user
        if newest_only:
            query.limit = 1
        await asyncio.sleep(0)
        found = [text for owner, text in reversed(self._mails) if owner == query.owner]
        found = found[: query.limit]
        self._free.append(query)
        return found


class InboxReader(Surface[Inbox]):
    @operation(text=secrets())
    async def keep(self, text: str) -> None:
        await self.world.keep(self.user.user_id, text)

    @operation
    async def newest(self) -> list[str]:
        return await self.world.read(self.user.user_id, newest_only=True)

    @operation
    async def everything(self) -> list[str]:
        return await self.world.read(self.user.user_id)


# -- family 4: one meter for the process ---------------------------------------------------------------------


class Meter:
    def __init__(self) -> None:
        self.requests = 0


class Assistant:
    """Answers its users, and shows each what it was asked for."""

    def __init__(self, meter_of: Callable[[str], Meter]) -> None:
        self._meter_of = meter_of
        self._talks: dict[str, list[str]] = {}

    async def ask(self, user: str, text: str) -> str:
        meter = self._meter_of(user)
        await asyncio.sleep(0)
        meter.requests += 1
        self._talks.setdefault(user, []).append(text)
        return f"You said: {text}"

    async def talk(self, user: str) -> list[str]:
        return list(self._talks.get(user, ()))

    async def usage(self, user: str) -> dict[str, int]:
        return {"requests": self._meter_of(user).requests}


def assistant_with_one_meter() -> Assistant:
    meter = Meter()
    return Assistant(lambda user: meter)


def assistant_with_a_meter_each() -> Assistant:
    meters: dict[str, Meter] = {}
    return Assistant(lambda user: meters.setdefault(user, Meter()))


class Asker(Surface[Assistant]):
    @operation(text=secrets())
    async def ask(self, text: str) -> str:
        return await self.world.ask(self.user.user_id, text)

    @operation
    async def talk(self) -> list[str]:
        return await self.world.talk(self.user.user_id)

    @operation
    async def usage(self) -> dict[str, int]:
        return await self.world.usage(self.user.user_id)


# -- family 6: a trial run that fails leaves its ContextVar set in the worker --------------------------------

_is_trial: ContextVar[bool] = ContextVar("is_trial", default=False)


class Importer:
    """One worker takes in what users upload; a trial run only says whether it would do."""

    def __init__(self) -> None:
        self._uploads: asyncio.Queue[tuple[str, str, bool, asyncio.Future[None]]] = asyncio.Queue()
        self._rows: dict[str, list[str]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Importer]:
        worker = asyncio.create_task(self._serve())
        try:
            yield self
        finally:
            worker.cancel()

    async def _serve(self) -> None:
        while True:
            user, text, is_trial, done = await self._uploads.get()
            try:
                await (self.try_out(user, text) if is_trial else self._take_in(user, text))
            except ValueError as error:
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(None)

    async def try_out(self, user: str, text: str) -> None:
        token = _is_trial.set(True)
        try:
            await self._take_in(user, text)
        finally:
            _is_trial.reset(token)

    async def _take_in(self, user: str, text: str) -> None:
        await asyncio.sleep(0)
        if len(text) > 30:
            raise ValueError("the row is too long")
        if not _is_trial.get():
            self._rows.setdefault(user, []).append(text)

    async def upload(self, user: str, text: str, *, is_trial: bool = False) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._uploads.put((user, text, is_trial, done))
        await done

    def rows(self, user: str) -> list[str]:
        return list(self._rows.get(user, ()))


class ImporterThatResetsOnSuccess(Importer):
    async def try_out(self, user: str, text: str) -> None:
        token = _is_trial.set(True)
        await self._take_in(user, text)
        _is_trial.reset(token)


class Uploader(Surface[Importer]):
    @operation(text=secrets())
    async def upload(self, text: str) -> None:
        await self.world.upload(self.user.user_id, text)

    @operation(text=secrets())
    async def try_out(self, text: str) -> None:
        await self.world.upload(self.user.user_id, text, is_trial=True)

    @operation(note=secrets(wrap="a remark that is longer than the column: {}"), may_fail=True)
    async def try_out_with_remark(self, note: str) -> None:
        await self.world.upload(self.user.user_id, note, is_trial=True)

    @operation
    async def rows(self) -> list[str]:
        return self.world.rows(self.user.user_id)


# -- family 8: a count that is kept for all ------------------------------------------------------------------


class Task(BaseModel):
    text: str


def tasks_app(*, vary: str | None) -> Any:
    app = FastAPI()
    tasks: dict[str, list[str]] = {}

    @app.post("/tasks")
    async def add(user: CurrentUser, task: Task) -> None:
        tasks.setdefault(user, []).append(task.text)

    @app.get("/tasks")
    async def count(user: CurrentUser, response: Response) -> dict[str, int]:
        response.headers["cache-control"] = "public, max-age=60"
        if vary:
            response.headers["vary"] = vary
        return {"open": len(tasks.get(user, ()))}

    @app.get("/tasks/open")
    async def listing(user: CurrentUser) -> list[str]:
        return tasks.get(user, [])

    return SharedCache(app)


class TaskUser(WebUser):
    @operation(text=secrets())
    async def add(self, text: str) -> httpx.Response:
        return await self.http.post("/tasks", json={"text": text})

    @operation
    async def badge(self) -> httpx.Response:
        return await self.http.get("/tasks")

    @operation
    async def listing(self) -> httpx.Response:
        return await self.http.get("/tasks/open")


# -- family 13: a job that fails takes the worker of all with it ---------------------------------------------


class Printer:
    """One worker typesets what is in the queue, and puts the page into the tray of its user."""

    def __init__(self) -> None:
        self._jobs: asyncio.Queue[tuple[str, str, asyncio.Future[None]]] = asyncio.Queue()
        self._trays: dict[str, list[str]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Printer]:
        worker = asyncio.create_task(self._serve())
        try:
            yield self
        finally:
            worker.cancel()
            with suppress(asyncio.CancelledError, ValueError):
                await worker

    async def _serve(self) -> None:
        while True:
            user, text, done = await self._jobs.get()
            await asyncio.sleep(0)
            try:
                self._trays.setdefault(user, []).append(self._typeset(text))
            except ValueError as error:
                if not done.done():
                    done.set_exception(error)
                self.failed(error)
            else:
                if not done.done():
                    done.set_result(None)

    def failed(self, error: ValueError) -> None:
        """The user was told; the worker goes on."""

    def _typeset(self, text: str) -> str:
        if "\f" in text:
            raise ValueError("a form feed cannot be typeset")
        return text.center(60)

    async def print(self, user: str, text: str) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._jobs.put((user, text, done))
        await done

    def tray(self, user: str) -> list[str]:
        return list(self._trays.get(user, ()))


class PrinterThatDiesOfAJob(Printer):
    def failed(self, error: ValueError) -> None:
        raise error


class PrinterUser(Surface[Printer]):
    @operation(text=secrets())
    async def print(self, text: str) -> None:
        await self.world.print(self.user.user_id, text)

    @operation(text=secrets(wrap="Page one\fPage two: {}"), may_fail=True)
    async def print_listing(self, text: str) -> None:
        """What an old program wrote, with its form feeds."""
        await self.world.print(self.user.user_id, text)

    @operation
    async def tray(self) -> list[str]:
        return self.world.tray(self.user.user_id)


EXHIBITS = {
    "gave_up_and_left_the_line": Exhibit(
        surface=Visited,
        leaky=MultiplexerThatForgetsWhoGaveUp.connected,
        safe=Multiplexer.connected,
        options={"faults": ("cancel",)},
    ),
    "limit_left_on_query": Exhibit(
        surface=InboxReader, leaky=lambda: Inbox(QueryThatKeepsItsLimit), safe=lambda: Inbox(Query)
    ),
    "one_meter_for_all": Exhibit(
        surface=Asker, leaky=assistant_with_one_meter, safe=assistant_with_a_meter_each
    ),
    "trial_run_not_reset": Exhibit(
        surface=Uploader,
        leaky=lambda: ImporterThatResetsOnSuccess().running(),
        safe=lambda: Importer().running(),
    ),
    "count_without_vary": Exhibit(
        surface=TaskUser,
        leaky=lambda: tasks_app(vary=None),
        safe=lambda: tasks_app(vary="Authorization"),
    ),
    "failed_job_stops_the_worker": Exhibit(
        surface=PrinterUser,
        leaky=lambda: PrinterThatDiesOfAJob().running(),
        safe=lambda: Printer().running(),
    ),
}
