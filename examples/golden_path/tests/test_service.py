"""What the service does for one user: requests and answers over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
from running import CLICKHOUSE_SCHEMA, POSTGRES_SCHEMA, EventStream, client_of, path_of, running, sign_in
from starlette.applications import Starlette

pytestmark = [
    pytest.mark.postgres(schema=POSTGRES_SCHEMA),
    pytest.mark.clickhouse(schema=CLICKHOUSE_SCHEMA),
]

TITLES = [
    "plan",
    "a/b",
    "a/",
    "%2F",
    "a?b",
    "a#b",
    " ",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "a:b|c",
    "...",
]


@pytest.mark.parametrize("title", TITLES)
async def test_a_note_is_kept_under_any_title(alice: httpx.AsyncClient, title: str) -> None:
    kept = await alice.put(path_of(title), json={"body": "milk", "colour": "green"})
    read = await alice.get(path_of(title))

    assert kept.status_code == read.status_code == 200
    assert read.json() == {"title": title, "body": "milk", "colour": "green"}


async def test_a_note_written_again_is_replaced_in_every_view(alice: httpx.AsyncClient) -> None:
    await alice.put("/notes/plan", json={"body": "first"})
    await alice.get("/notes/plan")
    await alice.get("/notes")
    await alice.put("/notes/plan", json={"body": "second"})

    note = {"title": "plan", "body": "second", "colour": "white"}
    assert (await alice.get("/notes/plan")).json() == note
    assert (await alice.get("/notes")).json() == {"notes": [note]}
    assert (await alice.get("/search", params={"text": "PLAN"})).json() == {"notes": [note]}
    assert (await alice.get("/search", params={"pattern": "^p.a"})).json() == {"notes": [note]}
    assert (await alice.get("/export")).text == "# plan\nsecond"
    assert (await alice.get("/count")).json() == {"notes": 1}


async def test_a_deleted_note_is_gone_from_every_view(alice: httpx.AsyncClient) -> None:
    await alice.put("/notes/plan", json={"body": "milk"})
    await alice.get("/notes/plan")

    assert (await alice.delete("/notes/plan")).status_code == 204
    assert (await alice.delete("/notes/plan")).status_code == 404
    assert (await alice.get("/notes/plan")).json() == {"error": "no such note"}
    assert (await alice.get("/notes")).json() == {"notes": []}
    assert (await alice.get("/count")).json() == {"notes": 0}


async def test_a_run_is_carried_out_in_the_background(alice: httpx.AsyncClient) -> None:
    started = await alice.post("/runs", json={"label": "errand", "prompt": "buy some milk"})
    run_id = started.json()["run_id"]

    assert started.status_code == 202
    assert (await alice.get(f"/runs/{run_id}")).json() == {
        "run_id": run_id,
        "label": "errand",
        "prompt": "buy some milk",
        "status": "finished",
        "output": "3 words considered",
    }
    assert (await alice.get("/usage")).json() == {
        "runs": 1,
        "tokens": 3,
        "labels": [{"label": "errand", "runs": 1, "tokens": 3}],
    }


async def test_a_deleted_run_is_gone(alice: httpx.AsyncClient) -> None:
    run_id = (await alice.post("/runs", json={"label": "errand", "prompt": "go"})).json()["run_id"]

    assert (await alice.delete(f"/runs/{run_id}")).status_code == 204
    assert (await alice.get(f"/runs/{run_id}")).status_code == 404
    assert (await alice.get("/runs")).json() == {"runs": []}


async def test_a_message_arrives(alice: httpx.AsyncClient, bob: httpx.AsyncClient) -> None:
    await alice.post("/messages", json={"to": "bob", "text": "hello"})

    assert (await bob.get("/messages")).json() == {"messages": [{"from": "alice", "text": "hello"}]}
    assert (await alice.get("/messages/sent")).json() == {"messages": [{"to": "bob", "text": "hello"}]}


async def test_a_message_to_nobody_is_answered_like_any_other(alice: httpx.AsyncClient) -> None:
    assert (await alice.post("/messages", json={"to": "nobody", "text": "hello"})).status_code == 202


@pytest.mark.proves("isolation.websockets")
async def test_an_event_is_pushed_to_each_connection_of_its_user(
    service: Starlette, alice: httpx.AsyncClient
) -> None:
    streams = [EventStream(service, alice.headers["authorization"]) for _ in range(2)]
    for stream in streams:
        await stream.open()
    await alice.put("/notes/plan", json={"body": "milk"})

    note = {"title": "plan", "body": "milk", "colour": "white"}
    assert [stream.pushed() for stream in streams] == [[{"kind": "note kept", "note": note}]] * 2
    for stream in streams:
        await stream.close()


async def test_a_closed_connection_disturbs_no_later_event(
    service: Starlette, alice: httpx.AsyncClient
) -> None:
    stream = EventStream(service, alice.headers["authorization"])
    await stream.open()
    await stream.close()

    assert (await alice.put("/notes/plan", json={"body": "milk"})).status_code == 200


async def test_a_visitor_gets_no_events(service: Starlette) -> None:
    stream = EventStream(service)
    await stream.open()
    await stream.close()

    assert stream.closed_with == 4401


PATHS = [
    ("GET", "/notes"),
    ("GET", "/notes/plan"),
    ("PUT", "/notes/plan"),
    ("DELETE", "/notes/plan"),
    ("GET", "/count"),
    ("GET", "/search?text=a"),
    ("GET", "/export"),
    ("GET", "/draft"),
    ("PUT", "/draft"),
    ("GET", "/messages"),
    ("POST", "/messages"),
    ("GET", "/messages/sent"),
    ("GET", "/runs"),
    ("POST", "/runs"),
    ("GET", "/runs/00000000-0000-4000-8000-000000000000"),
    ("DELETE", "/runs/00000000-0000-4000-8000-000000000000"),
    ("POST", "/ask"),
    ("POST", "/chat"),
    ("GET", "/activity"),
    ("GET", "/usage"),
]


@pytest.mark.proves("resilience.invalid-context")
async def test_every_endpoint_asks_who_is_there(service: Starlette) -> None:
    async with client_of(service) as visitor:
        answers = [(path, (await visitor.request(method, path)).status_code) for method, path in PATHS]

    assert [answer for answer in answers if answer[1] != 401] == []


async def test_a_token_of_another_service_signs_nobody_in(
    service: Starlette, alice: httpx.AsyncClient
) -> None:
    token = alice.headers["authorization"]
    forged = token[:-1] + ("0" if token[-1] != "0" else "1")

    for authorization in (forged, "Bearer", "Bearer x.y", "Basic YTpi", "Bearer \N{LATIN SMALL LETTER E}."):
        answer = await alice.get("/notes", headers={"authorization": authorization})
        assert answer.status_code == 401


@pytest.mark.proves("resilience.malformed-context")
@pytest.mark.parametrize("user_id", ["", " ", "None", "null", "a\nb", "x" * 256, 5, None, ["a"]])
async def test_a_malformed_user_id_signs_nobody_in(service: Starlette, user_id: Any) -> None:
    async with client_of(service) as visitor:
        answer = await visitor.post("/sign-in", json={"user_id": user_id, "tenant_id": "north"})

    assert answer.status_code == 422
    assert answer.json()["error"].startswith("user_id ")


@pytest.mark.parametrize(
    ("method", "path", "content", "error"),
    [
        ("PUT", "/notes/plan", b"{", "the body must be JSON"),
        ("PUT", "/notes/plan", b"[]", "the body must be a JSON object"),
        ("PUT", "/notes/plan", b"{}", "body must be a text"),
        ("PUT", "/notes/plan", b'{"body": "\\u0000"}', "body holds a character that cannot be stored"),
        ("PUT", "/notes/plan", b'{"body": "\\ud800"}', "body holds a character that cannot be stored"),
        (
            "PUT",
            "/notes/plan",
            b'{"body": "b", "colour": "red"}',
            "a note is white, yellow or green, not red for 'b'",
        ),
        (
            "PUT",
            "/notes/" + "x" * 121,
            b'{"body": "b"}',
            "a title has 1 to 120 characters, not 121 characters",
        ),
        ("POST", "/chat", b'{"messages": "hello"}', "messages must be a list of texts"),
        ("GET", "/search", b"", "text must be a text"),
    ],
)
async def test_a_senseless_request_is_refused_in_words(
    alice: httpx.AsyncClient, method: str, path: str, content: bytes, error: str
) -> None:
    answer = await alice.request(method, path, content=content)

    assert (answer.status_code, answer.json()) == (422, {"error": error})


@pytest.mark.proves("isolation.contexts")
async def test_many_requests_of_two_users_at_once_stay_apart(
    alice: httpx.AsyncClient, bob: httpx.AsyncClient
) -> None:
    await asyncio.gather(
        *(who.put(f"/notes/{number}", json={"body": name}) for number in range(10) for name, who in
          (("alice", alice), ("bob", bob)))
    )  # fmt: skip

    for name, who in (("alice", alice), ("bob", bob)):
        notes = (await who.get("/notes")).json()["notes"]
        assert [note["body"] for note in notes] == [name] * 10


async def test_nothing_is_left_when_the_service_stops(postgres: Any, clickhouse: Any) -> None:
    tasks, threads = len(asyncio.all_tasks()), threading.active_count()
    async with running(postgres, clickhouse) as app, client_of(app) as http:
        await sign_in(http, "alice", "north")
        await http.get("/notes")

    assert len(asyncio.all_tasks()) == tasks
    assert threading.active_count() == threads
    assert not hasattr(app.state, "services")


async def test_a_run_that_used_nothing_is_no_usage(alice: httpx.AsyncClient) -> None:
    await alice.post("/runs", json={"label": "errand", "prompt": ""})

    assert (await alice.get("/runs")).json()["runs"][0]["output"] == "0 words considered"
    assert (await alice.get("/usage")).json() == {"runs": 0, "tokens": 0, "labels": []}


async def test_a_run_that_fails_in_the_background_is_logged(
    service: Starlette, alice: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await service.state.services.clickhouse.close()
    service.state.services.clickhouse._source = "nowhere:"
    answer = await alice.post("/runs", json={"label": "errand", "prompt": "go"})

    assert answer.status_code == 202
    assert "was not carried out" in caplog.text
