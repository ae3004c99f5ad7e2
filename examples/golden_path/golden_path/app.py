"""The ASGI application: reads requests, asks the services, writes answers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from golden_path.context import UserExecutionContext
from golden_path.errors import ApplicationError, NotSignedIn, Refused
from golden_path.identity import Tokens
from golden_path.notes import Note
from golden_path.services import Services, running_services
from golden_path.timeouts import DatabaseTimeoutConfig
from golden_path.usage import ClientFactory


def services_of(connection: HTTPConnection) -> Services:
    services: Services = connection.app.state.services
    return services


def signed_in(connection: HTTPConnection) -> UserExecutionContext:
    """Return a fresh context for the user who sent the request; everything below is told it by argument."""
    tokens: Tokens = connection.app.state.tokens
    return tokens.read(connection.headers.get("authorization"))


def text(value: Any, name: str) -> str:
    """Return a text that both databases can hold."""
    if not isinstance(value, str):
        raise Refused(f"{name} must be a text")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise Refused(f"{name} holds a character that cannot be stored")
    return value


async def sent(request: Request) -> dict[str, Any]:
    """Return the JSON object that came with a request."""
    try:
        fields = await request.json()
    except ValueError:
        raise Refused("the body must be JSON") from None
    if not isinstance(fields, dict):
        raise Refused("the body must be a JSON object")
    return fields


async def sign_in(request: Request) -> Response:
    """Give a token; a real service would ask for a password or an identity provider's word here."""
    fields = await sent(request)
    try:
        context = UserExecutionContext(fields.get("user_id"), fields.get("tenant_id") or "")  # type: ignore[arg-type]
    except ValueError as error:
        raise Refused(str(error)) from None
    tokens: Tokens = request.app.state.tokens
    return JSONResponse({"token": tokens.issue(context)})


async def put_note(request: Request) -> Response:
    context, fields = signed_in(request), await sent(request)
    note = Note(
        title=text(request.path_params["title"], "title"),
        body=text(fields.get("body"), "body"),
        colour=text(fields.get("colour", "white"), "colour"),
    )
    await services_of(request).notes.put(context, note)
    await services_of(request).notifications.publish(context, {"kind": "note kept", "note": note.to_json()})
    return JSONResponse(note.to_json())


async def get_note(request: Request) -> Response:
    context = signed_in(request)
    note = await services_of(request).notes.get(context, text(request.path_params["title"], "title"))
    return JSONResponse(note.to_json())


async def delete_note(request: Request) -> Response:
    context = signed_in(request)
    await services_of(request).notes.delete(context, text(request.path_params["title"], "title"))
    return Response(status_code=204)


async def list_notes(request: Request) -> Response:
    notes = await services_of(request).notes.page(signed_in(request))
    return JSONResponse({"notes": [note.to_json() for note in notes]})


async def count_notes(request: Request) -> Response:
    return JSONResponse({"notes": await services_of(request).notes.count(signed_in(request))})


async def search_notes(request: Request) -> Response:
    context, notes = signed_in(request), services_of(request).notes
    if "pattern" in request.query_params:
        found = await notes.match(context, text(request.query_params["pattern"], "pattern"))
    else:
        found = await notes.search(context, text(request.query_params.get("text"), "text"))
    return JSONResponse({"notes": [note.to_json() for note in found]})


async def export_notes(request: Request) -> Response:
    return PlainTextResponse(await services_of(request).notes.export(signed_in(request)))


async def put_draft(request: Request) -> Response:
    context, fields = signed_in(request), await sent(request)
    services_of(request).drafts.keep(context, text(fields.get("text"), "text"))
    return Response(status_code=204)


async def get_draft(request: Request) -> Response:
    return JSONResponse({"text": services_of(request).drafts.of(signed_in(request))})


async def send_message(request: Request) -> Response:
    context, fields = signed_in(request), await sent(request)
    await services_of(request).messages.send(
        context, text(fields.get("to"), "to"), text(fields.get("text"), "text")
    )
    return Response(status_code=202)


async def list_inbox(request: Request) -> Response:
    return JSONResponse({"messages": await services_of(request).messages.inbox(signed_in(request))})


async def list_sent(request: Request) -> Response:
    return JSONResponse({"messages": await services_of(request).messages.sent(signed_in(request))})


async def start_run(request: Request) -> Response:
    context, fields, services = signed_in(request), await sent(request), services_of(request)
    label, prompt = text(fields.get("label"), "label"), text(fields.get("prompt"), "prompt")
    run_id = await services.runs.start(context, label, prompt)
    return JSONResponse(
        {"run_id": str(run_id)},
        status_code=202,
        background=BackgroundTask(services.carry_out, context, run_id, label, prompt),
    )


async def list_runs(request: Request) -> Response:
    return JSONResponse({"runs": await services_of(request).runs.page(signed_in(request))})


async def get_run(request: Request) -> Response:
    return JSONResponse(
        await services_of(request).runs.get(signed_in(request), request.path_params["run_id"])
    )


async def delete_run(request: Request) -> Response:
    await services_of(request).runs.delete(signed_in(request), request.path_params["run_id"])
    return Response(status_code=204)


async def ask(request: Request) -> Response:
    context, fields = signed_in(request), await sent(request)
    answer = await services_of(request).agent(context).answer(text(fields.get("title"), "title"))
    return JSONResponse({"answer": answer})


async def chat(request: Request) -> Response:
    context, fields = signed_in(request), await sent(request)
    messages = fields.get("messages")
    if not isinstance(messages, list):
        raise Refused("messages must be a list of texts")
    reply = services_of(request).agent(context).converse([text(message, "message") for message in messages])
    return JSONResponse({"reply": reply})


async def list_activity(request: Request) -> Response:
    return JSONResponse({"activity": await services_of(request).activity.page(signed_in(request))})


async def get_usage(request: Request) -> Response:
    return JSONResponse(await services_of(request).usage(signed_in(request)).summary())


async def events(websocket: WebSocket) -> None:
    """Push what happens to the signed-in user until that user hangs up."""
    try:
        context = signed_in(websocket)
    except NotSignedIn:
        await websocket.close(4401)
        return
    notifications = services_of(websocket).notifications
    await websocket.accept()
    notifications.join(context, websocket)
    try:
        # Tells the client that from here on nothing is missed.
        await websocket.send_json({"kind": "ready"})
        async for _ in websocket.iter_text():
            pass
    finally:
        notifications.leave(context, websocket)


async def tell(_: Request, error: Exception) -> Response:
    assert isinstance(error, (ApplicationError, HTTPException))
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, status_code=error.status_code)
    return JSONResponse({"error": str(error)}, status_code=error.status)


ROUTES = [
    Route("/sign-in", sign_in, methods=["POST"]),
    Route("/notes", list_notes, methods=["GET"]),
    Route("/notes/{title:path}", put_note, methods=["PUT"]),
    Route("/notes/{title:path}", get_note, methods=["GET"]),
    Route("/notes/{title:path}", delete_note, methods=["DELETE"]),
    Route("/count", count_notes, methods=["GET"]),
    Route("/search", search_notes, methods=["GET"]),
    Route("/export", export_notes, methods=["GET"]),
    Route("/draft", put_draft, methods=["PUT"]),
    Route("/draft", get_draft, methods=["GET"]),
    Route("/messages", send_message, methods=["POST"]),
    Route("/messages", list_inbox, methods=["GET"]),
    Route("/messages/sent", list_sent, methods=["GET"]),
    Route("/runs", start_run, methods=["POST"]),
    Route("/runs", list_runs, methods=["GET"]),
    Route("/runs/{run_id:uuid}", get_run, methods=["GET"]),
    Route("/runs/{run_id:uuid}", delete_run, methods=["DELETE"]),
    Route("/ask", ask, methods=["POST"]),
    Route("/chat", chat, methods=["POST"]),
    Route("/activity", list_activity, methods=["GET"]),
    Route("/usage", get_usage, methods=["GET"]),
    WebSocketRoute("/events", events),
]


def create_app(
    *,
    postgres_dsn: str,
    clickhouse: str | ClientFactory,
    signing_key: bytes | None = None,
    timeouts: DatabaseTimeoutConfig | None = None,
) -> Starlette:
    """Return the application; it connects when its lifespan begins and leaves nothing when that ends.

    Args:
        postgres_dsn: Connects as the application's role. The schema must be there already.
        clickhouse: A DSN, or a callable that gives a client of clickhouse-connect without a session id.
        signing_key: Signs the bearer tokens; random when left out, so that tokens end with the process.
        timeouts: Seconds to wait for PostgreSQL; those of a laptop when left out.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with running_services(
            postgres_dsn=postgres_dsn, clickhouse=clickhouse, timeouts=timeouts or DatabaseTimeoutConfig()
        ) as services:
            app.state.services = services
            try:
                yield
            finally:
                del app.state.services

    app = Starlette(
        routes=ROUTES, lifespan=lifespan, exception_handlers={ApplicationError: tell, HTTPException: tell}
    )
    app.state.tokens = Tokens(signing_key or os.urandom(32))
    return app
