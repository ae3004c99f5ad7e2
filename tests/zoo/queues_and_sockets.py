"""Family 13: background workers, queues and sockets that serve several users."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from pytest_ssot_isolation.errors import Refused
from pytest_ssot_isolation.generation.strategies import keys, other_user, secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit
from .web import token_of

# -- a worker that acts as the user of the job before --------------------------------------------------------


class Worker:
    """Does jobs one after another; each says whose it is, and what is to be done."""

    def __init__(self) -> None:
        self._jobs: asyncio.Queue[tuple[dict[str, Any], asyncio.Future[Any]]] = asyncio.Queue()
        self._rows: dict[str, list[str]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Worker]:
        task = asyncio.create_task(self._serve())
        try:
            yield self
        finally:
            task.cancel()

    async def _serve(self) -> None:
        while True:
            job, done = await self._jobs.get()
            await asyncio.sleep(0)  # where a real one loads what the job needs
            result = self.perform(job)
            if not done.done():
                done.set_result(result)

    def perform(self, job: dict[str, Any]) -> Any:
        return self.act(job["user"], job)

    def act(self, user: str, job: dict[str, Any]) -> Any:
        rows = self._rows.setdefault(user, [])
        if "text" in job:
            rows.append(job["text"])
            return len(rows)
        return list(rows)

    async def submit(self, **job: Any) -> Any:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await self._jobs.put((job, done))
        return await done


class WorkerThatKeepsItsSession(Worker):
    """Signs in anew only when a job says so; those that come in a batch need not."""

    _user = ""

    def perform(self, job: dict[str, Any]) -> Any:
        if not self._user or job.get("urgent"):
            self._user = job["user"]
        return self.act(self._user, job)


class JobUser(Surface[Worker]):
    @operation(text=secrets())
    async def add(self, text: str) -> int:
        added: int = await self.world.submit(user=self.user.user_id, text=text, urgent=True)
        return added

    @operation
    async def listing(self) -> list[str]:
        rows: list[str] = await self.world.submit(user=self.user.user_id)
        return rows


# -- a hub that pushes ---------------------------------------------------------------------------------------


class Hub:
    """Pushes what is published to those who listen; a mailbox for each connection."""

    def __init__(self) -> None:
        self.mailboxes: dict[str, list[asyncio.Queue[str]]] = {}

    def connect(self, user: str) -> asyncio.Queue[str]:
        mailbox: asyncio.Queue[str] = asyncio.Queue()
        self.mailboxes.setdefault(user, []).append(mailbox)
        return mailbox

    def disconnect(self, user: str, mailbox: asyncio.Queue[str]) -> None:
        self.mailboxes[user].remove(mailbox)

    async def publish(self, user: str, text: str) -> None:
        """Push a user's own change to the user's own connections."""
        await asyncio.sleep(0)
        for mailbox in self.mailboxes.get(user, ()):
            mailbox.put_nowait(text)

    async def send(self, sender: str, to: str | None, text: str) -> None:
        await asyncio.sleep(0)
        for mailbox in self.mailboxes.get(to, ()) if to is not None else ():
            mailbox.put_nowait(text)


class HubThatTellsAll(Hub):
    async def publish(self, user: str, text: str) -> None:
        await asyncio.sleep(0)
        for mailboxes in self.mailboxes.values():
            for mailbox in mailboxes:
                mailbox.put_nowait(text)


class Listener(Surface[Any]):
    """Somebody with an open connection, who sees all that is pushed over it."""

    async def open(self) -> AsyncIterator[None]:
        mailbox = self.world.connect(self.user.user_id)
        listening = asyncio.create_task(self._listen(mailbox))
        yield
        listening.cancel()
        self.world.disconnect(self.user.user_id, mailbox)

    async def _listen(self, mailbox: asyncio.Queue[str]) -> None:
        while True:
            self.saw(await mailbox.get(), channel="websocket")


class Publisher(Listener):
    @operation(text=secrets())
    async def publish(self, text: str) -> None:
        await self.world.publish(self.user.user_id, text)


# -- a message to nobody goes to all -------------------------------------------------------------------------


class HubWithDefaultOfAll(Hub):
    async def send(self, sender: str, to: str | None, text: str) -> None:
        await asyncio.sleep(0)
        for user, mailboxes in self.mailboxes.items():
            if to is None or user == to:
                for mailbox in mailboxes:
                    mailbox.put_nowait(text)


class Sender(Listener):
    shared = ("websocket:*",)

    @operation(to=other_user(), text=secrets(to="to"))
    async def send(self, to: str, text: str) -> None:
        await self.world.send(self.user.user_id, to, text)

    @operation(text=secrets())
    async def send_draft(self, text: str) -> None:
        """A draft has nobody in its "to" yet."""
        await self.world.send(self.user.user_id, None, text)


# -- names of rooms that collide -----------------------------------------------------------------------------


class Rooms:
    """Each user has rooms of one's own; members follow them from several devices."""

    def __init__(self, name: Callable[[str, str], Any]) -> None:
        self._name = name
        self._log: dict[Any, list[str]] = {}

    async def post(self, user: str, room: str, text: str) -> None:
        await asyncio.sleep(0)
        self._log.setdefault(self._name(user, room), []).append(text)

    async def follow(self, user: str, room: str) -> list[str]:
        await asyncio.sleep(0)
        return list(self._log.get(self._name(user, room), ()))


class RoomUser(Surface[Rooms]):
    @operation(room=keys(), text=secrets())
    async def post(self, room: str, text: str) -> None:
        await self.world.post(self.user.user_id, room, text)

    @operation(room=keys())
    async def follow(self, room: str) -> list[str]:
        return await self.world.follow(self.user.user_id, room)


# -- who subscribes late gets what is in the buffer ----------------------------------------------------------


class Feed:
    """Replays the last events to a device that comes late."""

    def __init__(self) -> None:
        self._events: dict[str, deque[str]] = {}

    def buffer(self, user: str) -> deque[str]:
        return self._events.setdefault(user, deque(maxlen=50))

    async def emit(self, user: str, text: str) -> None:
        await asyncio.sleep(0)
        self.buffer(user).append(text)

    async def subscribe(self, user: str) -> list[str]:
        await asyncio.sleep(0)
        return list(self.buffer(user))[-10:]


class FeedWithOneBuffer(Feed):
    def buffer(self, user: str) -> deque[str]:
        return super().buffer("")


class Follower(Surface[Feed]):
    @operation(text=secrets())
    async def emit(self, text: str) -> None:
        await self.world.emit(self.user.user_id, text)

    @operation
    async def subscribe(self) -> list[str]:
        return await self.world.subscribe(self.user.user_id)


# -- over real WebSockets: a client that comes back resumes a stream -----------------------------------------


class Streams:
    """A WebSocket server: ``{"say": ...}`` adds to the stream, ``{"resume": n}`` gives what followed place n."""

    def __init__(self) -> None:
        self._streams: dict[str, list[str]] = {}

    def of(self, user: str, name: str) -> str:
        return f"{len(user)}:{user}{name}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with serve(self._serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            yield f"ws://127.0.0.1:{port}/"

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        user = socket.request.headers["authorization"]
        with contextlib.suppress(Exception):
            async for message in socket:
                asked = json.loads(message)
                stream = self._streams.setdefault(self.of(user, asked["stream"]), [])
                if "say" in asked:
                    stream.append(asked["say"])
                    await socket.send(json.dumps({"place": len(stream)}))
                else:
                    await socket.send(json.dumps({"events": stream[asked["resume"] :]}))


class StreamsByName(Streams):
    def of(self, user: str, name: str) -> str:
        return name


class StreamUser(Surface[str]):
    """Connects anew for each request, as a phone does."""

    async def _ask(self, **asked: Any) -> Any:
        headers = {"authorization": token_of(self.user.user_id)}
        try:
            socket: ClientConnection
            async with connect(self.world, additional_headers=headers, compression=None) as socket:
                await socket.send(json.dumps(asked))
                return json.loads(await socket.recv())
        except ValueError as error:
            raise Refused(str(error)) from error

    @operation(stream=keys(), text=secrets())
    async def say(self, stream: str, text: str) -> Any:
        return await self._ask(stream=stream, say=text)

    @operation(stream=keys())
    async def resume(self, stream: str) -> Any:
        return await self._ask(stream=stream, resume=0)


EXHIBITS = {
    "acts_as_the_previous_user": Exhibit(
        surface=JobUser,
        leaky=lambda: WorkerThatKeepsItsSession().running(),
        safe=lambda: Worker().running(),
    ),
    "broadcast_to_all": Exhibit(surface=Publisher, leaky=HubThatTellsAll, safe=Hub),
    "room_names_collide": Exhibit(
        surface=RoomUser,
        leaky=lambda: Rooms(lambda user, room: f"{user}/{room}"),
        safe=lambda: Rooms(lambda user, room: (user, room)),
    ),
    "late_subscriber_gets_buffer": Exhibit(surface=Follower, leaky=FeedWithOneBuffer, safe=Feed),
    "resumes_a_foreign_stream": Exhibit(
        surface=StreamUser, leaky=lambda: StreamsByName().listening(), safe=lambda: Streams().listening()
    ),
    "message_to_none_goes_to_all": Exhibit(surface=Sender, leaky=HubWithDefaultOfAll, safe=Hub),
}
