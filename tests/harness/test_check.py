"""``isolation.check``: what is found, how small it gets, and what a sound application is told."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pytest_ssot_isolation import Refused, Surface, UserExecutionContext, keys, operation, other_user, secrets
from pytest_ssot_isolation.errors import InconclusiveCheck, LeakFound, SurfaceError
from pytest_ssot_isolation.model.context import current_context
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Verdict


def test_a_sound_application_is_clean_and_its_report_says_what_was_seen(check: Any) -> None:
    report = check()

    assert report.verdict is Verdict.CLEAN, report.findings
    assert report.examples == 40
    assert report.calls > 40 * 5
    assert report.controls > 40
    assert report.never_called == ()


@pytest.mark.parametrize(
    ("mistake", "oracle", "operation_name", "calls"),
    [
        ("key forgets the user", "canary", "read", 2),
        ("folded", "canary", "read", 2),
        ("joined", "canary", "read", 2),
        ("id without owner", "canary", "read_by_id", 2),
        ("current user", "canary", "mine", 3),
        ("count of all", "noninterference", "count", 2),
        ("forbidden tells", "noninterference", "read_by_id", 2),
    ],
)
def test_each_mistake_is_found_and_made_as_small_as_it_can_be(
    check: Any, mistake: str, oracle: str, operation_name: str, calls: int
) -> None:
    report = check(mistake=mistake, examples=120)

    assert report.verdict is Verdict.LEAK
    found = {(f.oracle, f.operation): f for f in report.findings}
    assert (oracle, operation_name) in found
    finding = found[oracle, operation_name]
    assert len(finding.calls) == calls, finding.calls
    assert "the same in 5 of 5 replays" in finding.shrunk
    assert finding.preemptions <= 1


def test_what_another_user_took_away_is_an_integrity_finding(check: Any, clearing: Any) -> None:
    assert check(clearing, examples=60).verdict is Verdict.CLEAN

    report = check(clearing, mistake="clears all", examples=60)

    assert ("integrity", "mine") in {(f.oracle, f.operation) for f in report.findings}


def test_the_same_seed_gives_the_same_findings_and_another_seed_other_programs(check: Any) -> None:
    def told(report: Report) -> list[Any]:
        return [(f.key, f.calls, f.shrunk, f.story) for f in report.findings]

    one, two, other = (
        check(mistake="current user", examples=60, seed=seed, stop_at_first=True) for seed in (1, 1, 2)
    )

    assert told(one) == told(two)
    assert one.calls == two.calls
    assert told(one) != told(other)


def test_exactly_so_many_examples_are_run_as_were_asked_for(check: Any) -> None:
    assert check(examples=17).examples == 17


def test_two_to_a_thousand_users_can_act(check: Any) -> None:
    assert check(users=2, examples=10).verdict is Verdict.CLEAN
    assert check(users=1000, examples=3).verdict is Verdict.CLEAN


def test_a_leak_raises_and_the_error_carries_the_report(harness: Any, notes: Any, app: Any) -> None:
    with pytest.raises(LeakFound, match="alice") as caught:
        harness().check(notes, world=lambda: app("key forgets the user"), examples=20)

    (finding,) = [f for f in caught.value.report.findings if f.oracle == "canary"]
    assert (finding.victim, finding.offender) == ("alice", "bob")
    assert isinstance(caught.value, AssertionError)


def test_a_report_goes_through_json_and_back(check: Any) -> None:
    report = check(mistake="key forgets the user", examples=20)

    again = Report.from_plain(json.loads(report.to_json()))

    assert again == report


def test_team_mates_may_see_each_other_where_the_boundary_is_the_tenant(check: Any) -> None:
    class Team(Surface[dict[Any, str]]):
        @operation(title=keys(), body=secrets())
        async def write(self, title: str, body: str) -> None:
            self.world[self.user.tenant_id, title] = body

        @operation(title=keys())
        async def read(self, title: str) -> str | None:
            return self.world.get((self.user.tenant_id, title))

    shared: Any = check(Team, world=dict, boundary="tenant")
    apart: Any = check(Team, world=dict, boundary="user", tenants=1)

    assert shared.verdict is Verdict.CLEAN, shared.findings
    assert apart.verdict is Verdict.LEAK


def test_tenants_that_look_alike_are_kept_apart_too(check: Any) -> None:
    class Team(Surface[dict[Any, str]]):
        @operation(title=keys(), body=secrets())
        async def write(self, title: str, body: str) -> None:
            self.world[(self.user.tenant_id or "").casefold(), title] = body

        @operation(title=keys())
        async def read(self, title: str) -> str | None:
            return self.world.get(((self.user.tenant_id or "").casefold(), title))

    assert check(Team, world=dict, boundary="tenant").verdict is Verdict.LEAK


def test_an_admin_may_see_all_by_declaration(check: Any, notes: Any, app: Any) -> None:
    class Admin(Surface[Any]):
        @operation
        async def everything(self) -> list[str]:
            return [body for _, body in self.world.by_id.values()]

        def may_see(self, owner: UserExecutionContext) -> bool:
            return True

    class Nosy(Admin):
        def may_see(self, owner: UserExecutionContext) -> bool:
            return False

    assert check([notes, Admin], users=4).verdict is Verdict.CLEAN
    assert check([notes, Nosy], users=4).verdict is Verdict.LEAK


def test_a_message_is_lawful_for_its_addressee_only(check: Any) -> None:
    class Mail(Surface[dict[str, list[str]]]):
        @operation(to_user=other_user(), text=secrets(to="to_user"))
        async def send(self, to_user: str, text: str) -> None:
            self.world.setdefault(to_user, []).append(text)

        @operation
        async def inbox(self) -> list[str]:
            return list(self.world.get(self.user.user_id, []))

    class Open(Mail):
        @operation
        async def inbox(self) -> list[str]:
            return [text for texts in self.world.values() for text in texts]

    assert check(Mail, world=dict).verdict is Verdict.CLEAN
    assert check(Open, world=dict).verdict is Verdict.LEAK


def test_what_is_pushed_to_a_user_is_seen_by_the_user(check: Any) -> None:
    class Hub:
        def __init__(self) -> None:
            self.listeners: list[Any] = []

    class Pushed(Surface[Hub]):
        async def open(self) -> None:
            self.world.listeners.append(self)

        @operation(text=secrets())
        async def post(self, text: str) -> None:
            for listener in self.world.listeners:
                listener.saw(text, channel="websocket")

    report = check(Pushed, world=Hub)

    assert {(f.oracle, f.channel) for f in report.findings} >= {("canary", "websocket")}


def test_a_log_record_that_a_users_call_emits_is_seen_by_that_user(check: Any) -> None:
    logger = logging.getLogger("tests.of.logging")

    class Logged(Surface[dict[str, str]]):
        @operation(text=secrets())
        async def post(self, text: str) -> None:
            if (last := self.world.get("last")) is not None:
                logger.info("the one before was %s", last)
            self.world["last"] = text

        @operation
        async def mine(self) -> None:
            return None

    report = check(Logged, world=dict)

    assert ("canary", "log", "post") in {(f.oracle, f.channel, f.operation) for f in report.findings}
    assert logging.getLogger().level == logging.WARNING


def test_the_current_context_is_the_callers_in_tasks_and_threads_too(check: Any) -> None:
    class Asks(Surface[None]):
        @operation(secret=secrets())
        async def ask(self, secret: str) -> list[bool]:
            async def in_task() -> str:
                return current_context().user_id

            here = current_context().user_id
            there = await asyncio.create_task(in_task())
            loop = asyncio.get_running_loop()
            elsewhere = await loop.run_in_executor(None, lambda: current_context().user_id)
            assert {here, there, elsewhere} == {self.user.user_id}
            return [True]

        @operation
        def plainly(self) -> str:
            assert threading.current_thread() is not threading.main_thread()
            return current_context().user_id

    report = check(Asks, world=lambda: None, examples=15)

    assert report.findings == ()
    assert report.reasons == (
        "no owner saw an own secret again, so nobody could have seen a foreign one either. Give the surface an "
        "operation that reads back what was written",
    )


def test_ids_that_the_application_refuses_are_told_and_others_drawn(check: Any, notes: Any) -> None:
    class Strict(notes):  # type: ignore[misc]
        async def open(self) -> None:
            if not self.user.user_id.isascii():
                raise Refused("ASCII only")

    report = check(Strict)

    assert report.verdict is Verdict.CLEAN
    assert report.examples == 40
    assert "Unicode form" in " ".join(report.refused_ids) or report.refused_ids


def test_an_application_that_refuses_all_but_plain_ids_is_checked_with_those(check: Any, notes: Any) -> None:
    class Stricter(notes):  # type: ignore[misc]
        async def open(self) -> None:
            if (
                not self.user.user_id.isalnum()
                or not self.user.user_id.isascii()
                or self.user.user_id.lower() != (self.user.user_id)
            ):
                raise Refused("letters and digits only")

    report = check(Stricter)

    assert report.verdict is Verdict.CLEAN
    assert report.examples == 40
    assert report.refused_ids


def test_an_operation_that_never_succeeds_makes_the_check_inconclusive_unless_it_may_fail(
    check: Any, notes: Any
) -> None:
    class Broken(notes):  # type: ignore[misc]
        @operation
        async def export(self) -> None:
            raise RuntimeError("not configured")

    class Declared(notes):  # type: ignore[misc]
        @operation(may_fail=True)
        async def export(self) -> None:
            raise RuntimeError("not configured")

    broken = check(Broken)

    assert broken.verdict is Verdict.INCONCLUSIVE
    assert broken.never_called == ("Broken.export",)
    assert broken.reasons == (
        "Broken.export never succeeded, so nothing is known of it. Its first error: RuntimeError: not configured. "
        "Mend the surface, or declare it with @operation(may_fail=True)",
    )
    assert check(Declared).verdict is Verdict.CLEAN


def test_inconclusive_is_an_error_of_its_own(harness: Any) -> None:
    class Mute(Surface[None]):
        @operation(body=secrets())
        async def write(self, body: str) -> None:
            return None

    with pytest.raises(InconclusiveCheck, match="no owner saw an own secret again") as caught:
        harness().check(Mute, world=lambda: None, examples=5)

    assert caught.value.report.verdict is Verdict.INCONCLUSIVE


def test_a_surface_without_secrets_is_controlled_by_calls_that_succeed(check: Any) -> None:
    class Flags(Surface[dict[Any, bool]]):
        @operation(name=keys())
        async def turn_on(self, name: str) -> None:
            self.world[self.user.user_id, name] = True

        @operation(name=keys())
        async def is_on(self, name: str) -> bool:
            return self.world.get((self.user.user_id, name), False)

    class SharedFlags(Flags):
        @operation(name=keys())
        async def is_on(self, name: str) -> bool:
            return any(known == name for _, known in self.world)

    assert check(Flags, world=dict).verdict is Verdict.CLEAN
    leaky = check(SharedFlags, world=dict)
    assert [(f.oracle, f.operation) for f in leaky.findings] == [("noninterference", "is_on")]


@pytest.mark.parametrize("joiner", ["/", " "])
def test_a_limit_that_two_users_share_by_a_joined_key_is_found(check: Any, joiner: str) -> None:
    class Limits:
        def __init__(self) -> None:
            self.hits: Counter[str] = Counter()

        async def allows(self, user: str, title: str) -> bool:
            self.hits[f"{user}{joiner}{title}"] += 1
            return self.hits[f"{user}{joiner}{title}"] <= 5

    class Asking(Surface[Limits]):
        @operation(title=keys())
        async def ask(self, title: str) -> bool:
            return await self.world.allows(self.user.user_id, title)

    report = check(Asking, world=Limits, examples=3)

    assert {finding.oracle for finding in report.findings} == {"noninterference"}
    assert len(report.findings[0].calls) <= 6


def test_a_serial_id_is_told_once_and_fails_nothing(check: Any, notes: Any) -> None:
    class Undeclared(notes):  # type: ignore[misc]
        opaque = ()

    report = check(Undeclared)

    assert report.verdict is Verdict.CLEAN
    assert [(f.oracle, f.severity, f.operation, f.path) for f in report.findings] == [
        ("noninterference", "low", "write", "id")
    ]
    assert 'Declare it (opaque = ("write:id",)) or fix it (random ids)' in report.findings[0].explanation


def test_a_failing_assertion_of_the_surface_fails_the_check_as_such(check: Any, notes: Any) -> None:
    class Expects(notes):  # type: ignore[misc]
        @operation
        async def few(self) -> None:
            assert await self.world.count(self.user.user_id) < 3, "too many notes"

    report = check(Expects, examples=100)

    (finding,) = [f for f in report.findings if f.oracle == "expectation"]
    assert finding.explanation == "an assertion of the author's own failed in few: too many notes"
    assert len(finding.calls) == 4
    assert finding.calls[-1] == "alice: few() -> AssertionError: too many notes"


def test_the_world_may_be_a_value_an_awaitable_or_a_context_manager(check: Any, notes: Any, app: Any) -> None:
    left: list[str] = []

    async def awaited() -> Any:
        await asyncio.sleep(0)
        return app()

    @asynccontextmanager
    async def managed() -> AsyncIterator[Any]:
        yield app()
        left.append("left")

    assert check(world=app, examples=5).verdict is Verdict.CLEAN
    assert check(world=awaited, examples=5).verdict is Verdict.CLEAN
    assert check(world=managed, examples=5).verdict is Verdict.CLEAN
    assert len(left) >= 5


def test_without_equal_starts_the_report_says_what_could_not_be_compared(check: Any, app: Any) -> None:
    kept = app()

    report = check(world=lambda: kept, world_scope="check", examples=20)

    assert any("two runs had no equal start" in note for note in report.notes)
    with_reset = check(
        world=lambda: kept, world_scope="check", reset=lambda world: world.__init__(), examples=20
    )
    assert with_reset.notes == ()


def test_without_equal_starts_oracles_that_only_compare_are_never_called_clean(check: Any, app: Any) -> None:
    kept = app()

    report = check(
        world=lambda: kept, world_scope="check", examples=5, oracles=["integrity", "noninterference"]
    )

    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.reasons[0].startswith(
        "inconclusive for integrity and noninterference: two runs had no equal"
    )


def test_a_check_whose_every_example_is_held_up_is_given_up(check: Any, app: Any) -> None:
    class Endless(Surface[Any]):
        @operation
        async def wait(self) -> None:
            while True:  # noqa: ASYNC110
                await asyncio.sleep(60)

    report = check(Endless, world=app, examples=500)

    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.examples == 3
    assert report.reasons[0].startswith("every example was cut short, and the check was given up after 3.")


def test_a_leak_that_needs_an_earlier_example_is_told_as_one_history(check: Any) -> None:
    kept: dict[object, str] = {}

    class Cached(Surface[None]):
        """The first to write a title in this process wins, and everybody reads it."""

        @operation(title=keys(), body=secrets())
        async def write(self, title: str, body: str) -> None:
            kept.setdefault((self.user.user_id, title), body)
            kept.setdefault("first", body)

        @operation(title=keys())
        async def read(self, title: str) -> str | None:
            return kept.get((self.user.user_id, title))

        @operation
        async def first(self) -> str | None:
            return kept.get("first")

    report = check(Cached, world=lambda: None, examples=40)

    assert report.verdict is Verdict.LEAK
    (finding,) = [f for f in report.findings if f.oracle == "canary"]
    assert finding.operation == "first"
    assert "flaky" not in report.to_json()


def test_marker_values_beat_the_class_and_the_call_beats_both(check: Any, notes: Any) -> None:
    from pytest_ssot_isolation.parameters import read

    class Few(notes):  # type: ignore[misc]
        users = 5

    assert read(Few, {}, {}).users == 5
    assert read(Few, {"users": 4}, {}).users == 4
    assert read(Few, {"users": 4}, {"users": 2}).users == 2


def test_called_in_a_running_loop_it_names_the_asynchronous_twin(harness: Any, notes: Any, app: Any) -> None:
    async def within() -> None:
        harness().check(notes, world=app)

    with pytest.raises(SurfaceError, match=r"await isolation\.check_async\(\.\.\.\)"):
        asyncio.run(within())


def test_the_asynchronous_twin_runs_the_same_check_beside_the_callers_loop(
    harness: Any, notes: Any, app: Any
) -> None:
    async def within() -> Report:
        report: Report = await harness().check_async(notes, world=app, examples=10)
        return report

    assert asyncio.run(within()).verdict is Verdict.CLEAN


@pytest.mark.parametrize("faults", [(), ("cancel",)])
def test_being_refused_for_a_moment_because_others_are_at_work_is_no_leak(check: Any, faults: Any) -> None:
    class Places:
        def __init__(self) -> None:
            self.free = 2
            self.kept: dict[str, str] = {}

    class Guests(Surface[Places]):
        @operation(text=secrets())
        async def leave(self, text: str) -> None:
            if not self.world.free:
                raise RuntimeError("busy, come again")
            self.world.free -= 1
            try:
                await asyncio.sleep(0)
                self.world.kept[self.user.user_id] = text
            finally:
                self.world.free += 1

        @operation
        async def mine(self) -> str | None:
            return self.world.kept.get(self.user.user_id)

    report = check(Guests, world=Places, faults=faults, examples=150)

    assert report.verdict is Verdict.CLEAN, report.findings
