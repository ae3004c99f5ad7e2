"""What one signed-in user of the service can do, part by part; the harness decides who does what."""

from __future__ import annotations

import httpx
from running import path_of

from pytest_ssot_isolation import Refused, WebSurface, keys, observed, operation, other_user, secrets


class SignedIn(WebSurface):
    """A user with a client and a token of the user's own."""

    async def sign_in(self) -> dict[str, str]:
        who = {"user_id": self.user.user_id, "tenant_id": self.user.tenant_id}
        answer = await self.http.post("/sign-in", json=who)
        if answer.status_code == 422:
            raise Refused(answer.text)
        return {"authorization": f"Bearer {answer.json()['token']}"}


class Writer(SignedIn):
    """Somebody who writes notes under titles that others use as well, and titles that look like them."""

    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> httpx.Response:
        return await self.http.put(path_of(title), json={"body": body})


class Jotter(SignedIn):
    """Somebody who keeps one note, where titles are of no concern: it takes fewer calls."""

    @operation(body=secrets())
    async def write(self, body: str) -> httpx.Response:
        return await self.http.put("/notes/plan", json={"body": body})


class Finder(Jotter):
    """Somebody who keeps a note and reads it again, for surfaces that are about something else."""

    @operation()
    async def find(self) -> httpx.Response:
        return await self.http.get("/search", params={"pattern": "."})


class Starter(SignedIn):
    """Somebody who starts agent runs; without a prompt they use nothing."""

    @operation(label=secrets())
    async def start(self, label: str) -> str:
        answer = await self.http.post("/runs", json={"label": label, "prompt": ""})
        run_id: str = answer.raise_for_status().json()["run_id"]
        return run_id


class Notes(Writer):
    @operation(title=keys())
    async def read(self, title: str) -> httpx.Response:
        return await self.http.get(path_of(title))

    @operation(title=keys())
    async def delete(self, title: str) -> httpx.Response:
        return await self.http.delete(path_of(title))


class Pages(Writer):
    @operation()
    async def list_notes(self) -> httpx.Response:
        return await self.http.get("/notes")


class Searches(Jotter):
    @operation()
    async def search(self) -> httpx.Response:
        return await self.http.get("/search", params={"text": "PLA"})


class Exports(Jotter):
    @operation()
    async def export(self) -> httpx.Response:
        return await self.http.get("/export")


class Counts(SignedIn):
    @operation()
    async def write(self) -> httpx.Response:
        return await self.http.put("/notes/plan", json={"body": "nothing special"})

    @operation()
    async def count(self) -> httpx.Response:
        return await self.http.get("/count")


class Drafts(SignedIn):
    @operation(text=secrets())
    async def keep(self, text: str) -> httpx.Response:
        return await self.http.put("/draft", json={"text": text})

    @operation()
    async def look(self) -> httpx.Response:
        return await self.http.get("/draft")


class Runs(Starter):
    @operation()
    async def list_runs(self) -> httpx.Response:
        return await self.http.get("/runs")

    @operation(run_id=observed("start"))
    async def read(self, run_id: str) -> httpx.Response:
        return await self.http.get(f"/runs/{run_id}")


class RunDeletion(SignedIn):
    """Nothing here is secret: what counts is whether an answer tells that somebody else has such a run."""

    @operation()
    async def start(self) -> str:
        answer = await self.http.post("/runs", json={"label": "errand", "prompt": ""})
        run_id: str = answer.raise_for_status().json()["run_id"]
        return run_id

    @operation(run_id=observed("start"), weight=2)
    async def delete(self, run_id: str) -> httpx.Response:
        return await self.http.delete(f"/runs/{run_id}")


class Usage(SignedIn):
    order_free = ("body.labels",)  # by label, and labels are secrets here

    @operation(label=secrets(), prompt=secrets())
    async def start(self, label: str, prompt: str) -> httpx.Response:
        return await self.http.post("/runs", json={"label": label, "prompt": prompt})

    @operation()
    async def summary(self) -> httpx.Response:
        return await self.http.get("/usage")


class Diary(Starter):
    @operation()
    async def page(self) -> httpx.Response:
        return await self.http.get("/activity")


class Messages(SignedIn):
    shared = ("inbox:*",)  # others may write to me: that is what it is for

    @operation(to=other_user(), text=secrets(to="to"))
    async def send(self, to: str, text: str) -> httpx.Response:
        return await self.http.post("/messages", json={"to": to, "text": text})

    @operation()
    async def inbox(self) -> httpx.Response:
        return await self.http.get("/messages")

    @operation()
    async def sent(self) -> httpx.Response:
        return await self.http.get("/messages/sent")


class Events(Jotter):
    """Somebody who keeps a WebSocket open: all that comes over it is seen."""

    async def open(self) -> None:
        await super().open()
        events = await self.websocket("/events")
        await events.receive()  # the service says that from here on nothing is missed


class Questions(Jotter):
    @operation()
    async def ask(self) -> httpx.Response:
        return await self.http.post("/ask", json={"title": "plan"})


class Chats(Finder):
    @operation(message=secrets())
    async def chat(self, message: str) -> httpx.Response:
        return await self.http.post("/chat", json={"messages": [message]})


class Refusals(Finder):
    @operation(body=secrets(), may_fail=True)
    async def write_in_purple(self, body: str) -> httpx.Response:
        return await self.http.put("/notes/plan", json={"body": body, "colour": "purple"})


class Failures(Finder):
    @operation(may_fail=True, weight=3)
    async def search_badly(self) -> httpx.Response:
        return await self.http.get("/search", params={"pattern": "("})
