"""Each mistake of ``golden_path_before``, made by hand by two people, and its absence in ``golden_path``."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECRET = "the-secret-of-alice"


class Person:
    """One signed-in user, and that user's open WebSocket."""

    def __init__(self, http: httpx.AsyncClient, events: Any, path_of: Callable[[str], str]) -> None:
        self.http = http
        self.events = events
        self._path_of = path_of

    async def write(self, title: str, body: str, colour: str = "white") -> httpx.Response:
        return await self.http.put(self._path_of(title), json={"body": body, "colour": colour})

    async def read(self, title: str) -> httpx.Response:
        return await self.http.get(self._path_of(title))

    async def start(self, label: str, prompt: str = "think") -> str:
        answer = await self.http.post("/runs", json={"label": label, "prompt": prompt})
        run_id: str = answer.json()["run_id"]
        return run_id


# Each returns whether bob noticed alice. Their ids are in the decorator where they matter.
Mistake = Callable[[Person, Person], Awaitable[bool]]
MISTAKES: dict[str, tuple[Mistake, tuple[str, str], tuple[str, str]]] = {}


def mistake(
    alice: tuple[str, str] = ("north", "alice"), bob: tuple[str, str] = ("south", "bob")
) -> Callable[[Mistake], Mistake]:
    def note(act: Mistake) -> Mistake:
        MISTAKES[act.__name__] = (act, alice, bob)
        return act

    return note


@mistake()
async def a_note_is_cached_without_its_user(alice: Person, bob: Person) -> bool:
    await alice.write("plan", SECRET)
    assert SECRET in (await alice.read("plan")).text
    return SECRET in (await bob.read("plan")).text


@mistake(alice=("north:east", "alice"), bob=("north", "east:alice"))
async def a_page_is_cached_under_joined_ids(alice: Person, bob: Person) -> bool:
    await alice.write("plan", SECRET)
    assert SECRET in (await alice.http.get("/notes")).text
    return SECRET in (await bob.http.get("/notes")).text


@mistake(alice=("north", "Alice"), bob=("north", "alice"))
async def a_draft_is_kept_under_a_folded_id(alice: Person, bob: Person) -> bool:
    await alice.http.put("/draft", json={"text": SECRET})
    assert SECRET in (await alice.http.get("/draft")).text
    return SECRET in (await bob.http.get("/draft")).text


@mistake()
async def an_export_runs_on_a_connection_bound_to_the_last_user(alice: Person, bob: Person) -> bool:
    await alice.write("plan", SECRET)
    assert SECRET in (await alice.http.get("/export")).text
    return SECRET in (await bob.http.get("/export")).text


@mistake()
async def a_view_is_read_with_the_rights_of_its_owner(alice: Person, bob: Person) -> bool:
    await alice.write("plan", SECRET)
    assert SECRET in (await alice.http.get("/search", params={"text": "PLA"})).text
    return SECRET in (await bob.http.get("/search", params={"text": "PLA"})).text


@mistake()
async def a_run_is_read_by_its_id_alone(alice: Person, bob: Person) -> bool:
    run_id = await alice.start("errand", SECRET)
    assert SECRET in (await alice.http.get(f"/runs/{run_id}")).text
    assert SECRET not in (await bob.http.get("/runs")).text
    return SECRET in (await bob.http.get(f"/runs/{run_id}")).text


@mistake()
async def a_usage_summary_forgets_the_user(alice: Person, bob: Person) -> bool:
    await alice.start(SECRET)
    assert SECRET in (await alice.http.get("/usage")).text
    return SECRET in (await bob.http.get("/usage")).text


@mistake()
async def an_event_goes_to_everybody(alice: Person, bob: Person) -> bool:
    await alice.write("plan", SECRET)
    assert SECRET in str(alice.events.pushed())
    return SECRET in str(bob.events.pushed())


@mistake()
async def an_agent_works_for_whoever_came_first(alice: Person, bob: Person) -> bool:
    await alice.write("plan", SECRET)
    assert SECRET in (await alice.http.post("/ask", json={"title": "plan"})).text
    return SECRET in (await bob.http.post("/ask", json={"title": "plan"})).text


@mistake()
async def a_message_is_sent_as_whoever_is_served_just_then(alice: Person, bob: Person) -> bool:
    # The one mistake that needs two requests at the same time.
    for _ in range(20):
        await asyncio.gather(
            alice.http.post("/messages", json={"to": "carol", "text": SECRET}),
            *(bob.http.get("/draft") for _ in range(3)),
        )
    return SECRET in (await bob.http.get("/messages/sent")).text


@mistake()
async def a_background_task_writes_as_whoever_fills_the_batch(alice: Person, bob: Person) -> bool:
    await alice.start(SECRET)
    await bob.start("errand")
    return SECRET in (await bob.http.get("/activity")).text


@mistake()
async def a_count_is_over_all_users(alice: Person, bob: Person) -> bool:
    before = (await bob.http.get("/count")).json()
    await alice.write("plan", SECRET)
    return bool((await bob.http.get("/count")).json() != before)


@mistake()
async def a_foreign_id_is_told_from_one_that_nobody_has(alice: Person, bob: Person) -> bool:
    run_id = await alice.start("errand")
    foreign = await bob.http.delete(f"/runs/{run_id}")
    nobodys = await bob.http.delete("/runs/00000000-0000-4000-8000-000000000000")
    assert (await alice.http.delete(f"/runs/{run_id}")).status_code == 204
    return (foreign.status_code, foreign.text) != (nobodys.status_code, nobodys.text)


@mistake()
async def a_refusal_quotes_an_earlier_one(alice: Person, bob: Person) -> bool:
    assert SECRET in (await alice.write("plan", SECRET, colour="purple")).text
    refused = await bob.write("plan", "nothing special", colour="purple")
    assert refused.status_code == 422
    return SECRET in refused.text


@mistake()
async def agents_share_one_memory(alice: Person, bob: Person) -> bool:
    assert SECRET in (await alice.http.post("/chat", json={"messages": [SECRET]})).text
    return SECRET in (await bob.http.post("/chat", json={"messages": ["hello"]})).text


@mistake()
async def a_breaker_opens_for_everybody(alice: Person, bob: Person) -> bool:
    for _ in range(3):
        assert (await alice.http.get("/search", params={"pattern": "("})).status_code == 422
    return (await bob.write("plan", "nothing special")).status_code == 503


@pytest.fixture(params=["golden_path", "golden_path_before"])
def twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of one of the two projects; its package is what ``import golden_path`` gives."""
    for path in (EXAMPLES / "golden_path" / "tests", EXAMPLES / request.param):
        monkeypatch.syspath_prepend(path)
    yield request.param
    for name in [name for name in sys.modules if re.match(r"(golden_path|running)(\.|$)", name)]:
        del sys.modules[name]


@asynccontextmanager
async def two_people(
    running: Any, postgres: Any, clickhouse: Any, users: tuple[tuple[str, str], ...]
) -> AsyncIterator[list[Person]]:
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(running.running(postgres, clickhouse))
        people = []
        for tenant_id, user_id in users:
            http = await stack.enter_async_context(running.client_of(app))
            assert (await running.sign_in(http, user_id, tenant_id)).status_code == 200
            events = running.EventStream(app, http.headers["authorization"])
            await events.open()
            stack.push_async_callback(events.close)
            people.append(Person(http, events, running.path_of))
        yield people


@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_shows_before_and_is_mended(name: str, twin: str, postgres: Any, clickhouse: Any) -> None:
    act, *users = MISTAKES[name]
    running = importlib.import_module("running")
    postgres.apply(running.POSTGRES_SCHEMA)
    clickhouse.apply(running.CLICKHOUSE_SCHEMA)

    async def try_it() -> bool:
        async with two_people(running, postgres, clickhouse, tuple(users)) as (alice, bob):
            return await act(alice, bob)

    assert asyncio.run(try_it()) is (twin == "golden_path_before")


def test_each_test_file_of_the_one_project_is_run_on_the_other() -> None:
    first = {path.stem for path in (EXAMPLES / "golden_path" / "tests").glob("test_*.py")}
    again = {
        path.stem: path.read_text() for path in (EXAMPLES / "golden_path_before" / "tests").glob("test_*.py")
    }

    assert again.keys() == {f"{name}_before" for name in first}
    for name in first:
        assert f"from {name} import *" in again[f"{name}_before"]


def test_the_projects_differ_only_where_a_mistake_is() -> None:
    parts = ("golden_path/*.py", "schema/*.sql", "clickhouse/*.sql")
    good, before = (
        {
            path.relative_to(project).as_posix(): path.read_text()
            for part in parts
            for path in project.glob(part)
        }
        for project in (EXAMPLES / "golden_path", EXAMPLES / "golden_path_before")
    )

    assert before.keys() - good.keys() == {"golden_path/current.py"}
    assert good.keys() <= before.keys()
    assert {name for name in good if good[name] == before[name]} == {
        "clickhouse/golden_path.sql",
        "golden_path/__init__.py",
        "golden_path/context.py",
        "golden_path/identity.py",
        "golden_path/timeouts.py",
        "golden_path/user_context.py",
    }


def test_the_readme_names_a_test_for_each_mistake() -> None:
    readme = (EXAMPLES / "golden_path_before" / "README.md").read_text()
    tests = (EXAMPLES / "golden_path" / "tests" / "test_isolation.py").read_text()
    named = re.findall(r"`(test_\w+)` \|$", readme, flags=re.MULTILINE)

    assert len(named) == len(set(named)) == len(MISTAKES)
    assert set(named) == set(re.findall(r"^def (test_\w+)", tests, flags=re.MULTILINE))
