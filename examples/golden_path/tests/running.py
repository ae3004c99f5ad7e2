"""The application as the tests run it: in this process, on databases of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import golden_path
import httpx
from golden_path.app import create_app
from starlette.applications import Starlette

# Beside the package that was imported, so that these tests serve for each package of that name.
PROJECT = Path(golden_path.__file__).resolve().parents[1]
POSTGRES_SCHEMA = PROJECT / "schema" / "golden_path.sql"
CLICKHOUSE_SCHEMA = PROJECT / "clickhouse" / "golden_path.sql"


def application(postgres: Any, clickhouse: Any) -> Starlette:
    """Return the application, not started, on two databases of pytest-ssot-isolation."""
    return create_app(postgres_dsn=postgres.dsn, clickhouse=clickhouse.dsn)


@asynccontextmanager
async def running(postgres: Any, clickhouse: Any) -> AsyncIterator[Starlette]:
    """Yield the application, started, on two databases of pytest-ssot-isolation."""
    app = application(postgres, clickhouse)
    async with app.router.lifespan_context(app):
        yield app


def client_of(app: Starlette) -> httpx.AsyncClient:
    """Return a client that talks to the application without a network; nobody is signed in."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://notes.test")


async def sign_in(http: httpx.AsyncClient, user_id: str, tenant_id: str | None) -> httpx.Response:
    """Sign a user in; from then on the client sends the user's token."""
    answer = await http.post("/sign-in", json={"user_id": user_id, "tenant_id": tenant_id})
    if answer.status_code == 200:
        http.headers["authorization"] = f"Bearer {answer.json()['token']}"
    return answer


def path_of(title: str) -> str:
    """Return the path of a note, whatever its title is made of."""
    return f"/notes/{quote(title, safe='')}"


class EventStream:
    """A WebSocket to ``/events`` in this process, as one user.

    Args:
        app: The running application.
        authorization: The user's header.
    """

    def __init__(self, app: Starlette, authorization: str = "") -> None:
        self._scope: MutableMapping[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/events",
            "raw_path": b"/events",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"authorization", authorization.encode())] if authorization else [],
            "subprotocols": [],
            "client": ("notes.test", 1),
            "server": ("notes.test", 80),
        }
        self._app = app
        self._sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._received: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.closed_with: int | None = None

    async def open(self) -> None:
        """Connect, and wait until the service says that nothing will be missed, or hangs up."""
        self._sent.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._app(self._scope, self._sent.get, self._received.put))
        while True:
            message = await self._received.get()
            if message["type"] == "websocket.close":
                self.closed_with = message["code"]
                return
            if message["type"] == "websocket.send":
                return

    def pushed(self) -> list[dict[str, Any]]:
        """Return the events that came since this was last asked."""
        events = []
        while not self._received.empty():
            message = self._received.get_nowait()
            if message["type"] == "websocket.send":
                events.append(json.loads(message["text"]))
            elif message["type"] == "websocket.close":
                self.closed_with = message["code"]
        return events

    async def close(self) -> None:
        """Hang up, and wait until the service has noticed."""
        self._sent.put_nowait({"type": "websocket.disconnect", "code": 1000})
        if self._task is not None:
            await self._task
