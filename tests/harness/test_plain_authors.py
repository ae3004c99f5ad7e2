"""What authors of surfaces write without a second thought, and what a check makes of it."""

from __future__ import annotations

import asyncio
import contextvars
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pytest_ssot_isolation import Surface, WebSurface, keys, operation, secrets
from pytest_ssot_isolation.engine.own_threads import OwnThreads
from pytest_ssot_isolation.engine.reduce import Example, Reducer
from pytest_ssot_isolation.engine.script import Script
from pytest_ssot_isolation.errors import SurfaceError
from pytest_ssot_isolation.generation.casts import CastPlan
from pytest_ssot_isolation.model.program import Call, Program
from pytest_ssot_isolation.model.schedule import NATURAL
from pytest_ssot_isolation.model.verdict import Verdict
from tests.harness.conftest import Check

language: contextvars.ContextVar[str] = contextvars.ContextVar("language", default="en")


class Site:
    """Greets in the language that was chosen; as with Django, activated in the thread that serves the request."""

    def __init__(self, *, resets: bool) -> None:
        self.resets = resets

    def greet(self, chosen: str | None) -> str:
        token = language.set(chosen) if chosen else None
        greeting = {"en": "hello", "de": "hallo", "fr": "salut"}[language.get()]
        if token is not None and self.resets:
            language.reset(token)
        return greeting


class Visitor(Surface[Site]):
    def open(self) -> None:
        self.chosen: str | None = None

    @operation(chosen=st.sampled_from(["de", "fr"]))
    def choose(self, chosen: str) -> None:
        self.chosen = chosen

    @operation()
    def greet(self) -> str:
        return self.world.greet(self.chosen)


def test_what_a_plain_function_leaves_in_its_thread_is_met_by_the_next_user(check: Check) -> None:
    report = check(Visitor, world=lambda: Site(resets=False), seed=3)

    assert report.verdict is Verdict.LEAK
    assert {f.operation for f in report.findings} == {"greet"}
    assert check(Visitor, world=lambda: Site(resets=True), examples=60, seed=3).verdict is Verdict.CLEAN


def test_a_thread_holds_what_signing_in_set_for_as_long_as_that_user_acts() -> None:
    start = contextvars.copy_context()
    threads = OwnThreads(start)
    alice = start.copy()
    alice.run(language.set, "de")

    assert threads.run(alice, language.get, {}) == "de"
    assert threads.run(start.copy(), language.get, {}) == "en"
    # What the application sets there itself is its own affair.
    threads.run(alice, lambda: language.set("fr"), {})
    assert threads.run(start.copy(), language.get, {}) == "fr"
    assert OwnThreads(start).run(start.copy(), language.get, {}) == "en"


class Pages:
    """A cache with so many places that only a crowd fills it; what fell out is asked for anew."""

    PLACES = 150

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.cached: OrderedDict[str, str] = OrderedDict()

    def rename(self, user: str, name: str) -> None:
        self.names[user] = name

    def page(self, user: str) -> str:
        if user not in self.cached:
            self.cached[user] = self.names.get(user, "")
            while len(self.cached) > self.PLACES:
                self.cached.popitem(last=False)
        return self.cached[user]


class Reader(Surface[Pages]):
    @operation(name=secrets())
    async def rename(self, name: str) -> None:
        self.world.rename(self.user.user_id, name)

    @operation()
    async def page(self) -> str:
        return self.world.page(self.user.user_id)


class Renamer(Reader):
    """Looks at the page first, and renames after it: the cached page is an old one from there on."""

    @operation(name=secrets())
    async def look_and_rename(self, name: str) -> str:
        seen = self.world.page(self.user.user_id)
        self.world.rename(self.user.user_id, name)
        return seen


def test_what_only_a_crowd_brings_about_is_no_leak_of_anybody_in_particular(check: Check) -> None:
    report = check(Renamer, world=Pages, seed=1)

    assert report.verdict is Verdict.CLEAN
    (told,) = {f.shrunk for f in report.findings}
    assert told.endswith("a matter of how much all of them have together, such as a cache that is full")
    assert {f.severity for f in report.findings} == {"hint"}


class Fragile:
    """Notes under titles that all users share; with a note of two users in it, it cannot be shut down."""

    def __init__(self) -> None:
        self.notes: dict[str, tuple[str, str]] = {}
        self.is_broken = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Fragile]:
        yield self
        if self.is_broken:
            raise RuntimeError("the pool is in use")


@asynccontextmanager
async def never_ends() -> AsyncIterator[Pages]:
    yield Pages()
    raise RuntimeError("the pool is in use")


class Notes(Surface[Fragile]):
    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> None:
        owner = self.world.notes.get(title, (self.user.user_id, ""))[0]
        self.world.is_broken |= owner != self.user.user_id
        self.world.notes[title] = (self.user.user_id, body)

    @operation(title=keys())
    async def read(self, title: str) -> str:
        return self.world.notes.get(title, ("", ""))[1]


def test_a_leak_that_breaks_the_end_of_the_world_as_well_is_told_as_a_leak(check: Check) -> None:
    report = check(Notes, world=lambda: Fragile().running(), seed=1)

    assert report.verdict is Verdict.LEAK
    with pytest.raises(
        SurfaceError, match=r"could not be ended: RuntimeError: the pool is in use \(.*\.py:\d+ in"
    ):
        check(Reader, world=never_ends, seed=1)


def test_a_web_surface_may_have_an_open_and_a_close_of_its_own(check: Any) -> None:
    closed: list[bool] = []

    async def who(request: Request) -> Response:
        return PlainTextResponse(request.headers.get("x-user", "nobody"))

    class Own(WebSurface):
        async def sign_in(self) -> dict[str, str]:
            return {"x-user": self.user.user_id.encode().hex()}

        async def open(self) -> None:
            self.me = (await self.http.get("/")).text

        @operation(text=secrets())
        async def ask(self, text: str) -> str:
            assert self.me == self.user.user_id.encode().hex()
            return text

        async def close(self) -> None:
            closed.append(self.http.is_closed)

    report = check(Own, world=lambda: Starlette(routes=[Route("/", who)]), examples=5)

    assert [note for note in report.notes if "close()" in note] == []
    assert closed
    assert not any(closed)


def test_a_history_without_a_switch_is_not_traded_for_a_shorter_one_with_one() -> None:
    calls = tuple(Call(n, n % 2, "write") for n in range(5))
    example = Example(
        Script(number=0, program=Program(calls=calls), surfaces=(Notes, Notes), plan=CastPlan(count=2)),
        NATURAL,
    )
    tried: list[Example] = []

    async def shows(candidate: Example, _follows: bool) -> Example | None:
        tried.append(candidate)
        ids = {call.id for call in candidate.script.program.calls}
        return candidate if {0, 1, 2} <= ids or candidate.schedule.anchors else None

    small = asyncio.run(Reducer(shows).reduce(example, shown=2, evidence=(1,)))

    assert [call.id for call in small.script.program.calls] == [0, 1, 2]
    assert not any(candidate.schedule.anchors for candidate in tried)


class Shaky(Fragile):
    """Keeps its users apart; only what several of them did at one title stands in the way of its end."""

    def __init__(self) -> None:
        super().__init__()
        self.apart: dict[tuple[str, str], str] = {}


class Apart(Surface[Shaky]):
    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> None:
        await asyncio.sleep(0)
        self.world.is_broken |= any(t == title and who != self.user.user_id for who, t in self.world.apart)
        self.world.apart[self.user.user_id, title] = body

    @operation(title=keys())
    async def read(self, title: str) -> str:
        return self.world.apart.get((self.user.user_id, title), "")


def test_a_world_that_only_sometimes_cannot_end_is_an_error_once_the_hunt_is_over(check: Check) -> None:
    programs: list[int] = []

    with pytest.raises(SurfaceError, match="the pool is in use"):
        check(
            Apart,
            world=lambda: Shaky().running(),
            examples=12,
            seed=1,
            progress=lambda done, found: programs.append(done),
        )

    assert len(programs) > 5
