"""The factory check: each promise with a factory that breaks it, and one that keeps them all."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_ssot_isolation.engine.factory import check_factory, check_factory_async
from pytest_ssot_isolation.errors import SurfaceError
from pytest_ssot_isolation.model.context import UserExecutionContext
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Verdict

POOL: dict[str, object] = {}
KEPT: dict[str, Agent] = {}


class Agent:
    def __init__(self, context: UserExecutionContext, **more: object) -> None:
        self.context = context
        self.memory: list[str] = []
        self.__dict__.update(more)


def require(context: Any) -> UserExecutionContext:
    if not isinstance(context, UserExecutionContext):
        raise ValueError("a user context is required")
    return context


def sound(context: Any) -> Agent:
    return Agent(require(context))


async def sound_async(context: Any) -> Agent:
    agent = Agent(require(context))
    await asyncio.sleep(0)
    return agent


def oracles(report: Report) -> set[str]:
    return {finding.oracle for finding in report.findings}


def only_explanation(report: Report) -> str:
    (finding,) = report.findings
    return finding.explanation


@pytest.mark.parametrize("factory", [sound, sound_async, lambda context: sound_async(context)])
def test_a_factory_that_keeps_users_apart_is_clean(factory: Callable[[Any], Any]) -> None:
    report = check_factory(factory)

    assert (report.verdict, report.findings, report.notes) == (Verdict.CLEAN, (), ())
    assert report.calls > 1_020
    assert report.subject == f"factory {factory.__qualname__}"


def test_one_instance_for_all_is_told_with_the_users_that_got_it() -> None:
    @functools.lru_cache
    def only() -> Agent:
        return Agent(UserExecutionContext("nobody"))

    def singleton(context: Any) -> Agent:
        require(context)
        return only()

    report = check_factory(singleton, users=3)

    assert report.verdict is Verdict.LEAK
    assert "one and the same Agent to user-0000, user-0001 and user-0002" in report.findings[0].explanation
    assert (report.findings[0].victim, report.findings[0].offender) == ("user-0000", "user-0001")


def test_a_list_that_all_instances_hold_is_told_with_its_place() -> None:
    memory: list[str] = []

    report = check_factory(lambda context: Agent(require(context), memory=memory), users=2)

    assert only_explanation(report) == "user-0000 and user-0001 share one list: Agent.memory"


def test_what_shares_names_may_be_in_common_as_an_object_or_as_a_type() -> None:
    def pooled(context: Any) -> Agent:
        return Agent(require(context), pool=POOL)

    assert check_factory(pooled).verdict is Verdict.LEAK
    assert check_factory(pooled, shares=[POOL]).verdict is Verdict.CLEAN
    assert check_factory(pooled, shares=[dict]).verdict is Verdict.CLEAN


def test_a_class_level_list_that_grows_with_each_user_is_told() -> None:
    class Chat:
        everybody: list[str] = []  # noqa: RUF012

        def __init__(self, context: UserExecutionContext) -> None:
            self.everybody.append(context.user_id)

    report = check_factory(lambda context: Chat(require(context)))

    assert (
        "Chat.everybody belongs to the class, hence to every user, and grew from 1 to 21"
        in only_explanation(report)
    )


def test_an_instance_that_holds_the_id_of_another_user_is_told() -> None:
    last: list[str] = ["nobody"]

    def mixed(context: Any) -> Agent:
        before, last[0] = last[0], require(context).user_id
        return Agent(context, greeting_for=(before,))

    assert "the instance made for user-0001 holds the id of user-0000" in only_explanation(
        check_factory(mixed)
    )


def test_an_instance_lost_across_an_await_goes_to_the_wrong_user_only_when_many_ask_at_once() -> None:
    current: dict[str, Any] = {}

    async def racy(context: Any) -> Agent:
        current["context"] = require(context)
        await asyncio.sleep(0)
        return Agent(current["context"])

    report = check_factory(racy)

    assert report.verdict is Verdict.LEAK
    assert "holds the id of" in report.findings[0].explanation


def test_a_missing_context_that_is_accepted_is_a_leak() -> None:
    def lax(context: Any) -> Agent:
        return Agent(context)

    report = check_factory(lax)

    assert oracles(report) == {"refusal"}
    told = [finding.explanation for finding in report.findings]
    assert told[0].endswith(
        "lax made an instance of Agent for a missing context (None), and raised no ValueError"
    )
    assert any("a look-alike of a context whose user_id is 'undefined'" in line for line in told)


def test_another_error_than_a_value_error_for_a_malformed_context_is_told() -> None:
    def careless(context: Any) -> Agent:
        if context is None or not context.user_id or context.user_id == "undefined":
            raise ValueError("no user")
        return Agent(context)

    told = [finding.explanation for finding in check_factory(careless).findings]

    assert len(told) == 4
    assert "a bare string in place of a context with AttributeError" in told[1]
    assert told[1].endswith("where a ValueError is promised")


def test_one_users_failing_construction_that_harms_the_next_is_told() -> None:
    broken = threading.Event()

    def fragile(context: Any) -> Agent:
        if broken.is_set():
            raise RuntimeError("the shared client is broken")
        require(context)
        try:
            return Agent(context, name=context.user_id)
        except RuntimeError:
            broken.set()
            raise

    report = check_factory(fragile)

    assert oracles(report) == {"availability"}
    assert "while the constructions of 4 others failed: RuntimeError: the shared client is broken" in (
        report.findings[0].explanation
    )


def test_an_instance_kept_after_it_was_dropped_is_told_with_what_keeps_it() -> None:
    def keeping(context: Any) -> Agent:
        KEPT[require(context).user_id] = agent = Agent(context)
        return agent

    try:
        explanation = only_explanation(check_factory(keeping))
    finally:
        KEPT.clear()

    assert "the Agent made for user-0019 is not freed when it is dropped" in explanation
    assert f"{__name__}.KEPT['user-0019'] keeps it" in explanation


def test_instances_in_a_cache_are_told_with_the_cached_function() -> None:
    report = check_factory(functools.lru_cache(sound))

    assert oracles(report) == {"distinct", "residue"} or "the cache of" in report.findings[-1].explanation


def test_a_factory_of_its_own_kind_of_context_is_checked_with_the_contexts_given() -> None:
    def by_id(user_id: Any) -> Agent:
        if not isinstance(user_id, str) or not user_id.strip() or user_id == "None":
            raise ValueError("no user")
        return Agent(user_id)  # type: ignore[arg-type]

    report = check_factory(by_id, contexts=["alice", "bobby", "carol"])

    assert report.verdict is Verdict.CLEAN
    assert report.notes == ("3 contexts were given, so no 1,000 could be tried at once",)


def test_a_function_for_contexts_gives_as_many_as_are_tried_at_once() -> None:
    report = check_factory(sound, contexts=lambda number: UserExecutionContext(f"member-{number}"))

    assert (report.verdict, report.notes) == (Verdict.CLEAN, ())


def test_a_plain_function_that_needs_a_running_loop_is_checked_without_threads() -> None:
    def looped(context: Any) -> Agent:
        require(context)
        asyncio.get_running_loop()
        return Agent(context)

    report = check_factory(looped)

    assert report.verdict is Verdict.CLEAN
    assert report.notes == ("the factory needs a running event loop, so it was not called from threads",)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (lambda context: None, "returned None for a valid context, so there is no instance to look at"),
        (lambda context: 1 // 0, "failed for the first valid context, so there is nothing to look at: Zero"),
        (lambda context: context.user_id, "returned a plain str"),
    ],
)
def test_nothing_is_said_of_a_factory_that_gives_no_instance(
    factory: Callable[[Any], Any], reason: str
) -> None:
    report = check_factory(factory)

    assert report.verdict is Verdict.INCONCLUSIVE
    assert reason in report.reasons[0]


def test_in_a_running_loop_the_check_names_its_asynchronous_twin() -> None:
    async def main() -> Report:
        with pytest.raises(SurfaceError, match=r"await isolation\.check_factory_async"):
            check_factory(sound)
        return await check_factory_async(sound_async)

    assert asyncio.run(main()).verdict is Verdict.CLEAN


def test_what_is_no_factory_is_refused_with_the_remedy() -> None:
    @contextmanager
    def managed(context: Any) -> Any:
        yield Agent(context)

    with pytest.raises(SurfaceError, match="pass a function that enters it and returns what it yields"):
        check_factory(managed)
    with pytest.raises(SurfaceError, match="must be callable with one user context"):
        check_factory(Agent(UserExecutionContext("alice")))  # type: ignore[arg-type]
    with pytest.raises(SurfaceError, match="users must be 2 or more, not 1"):
        check_factory(sound, users=1)
    with pytest.raises(SurfaceError, match="two users are needed at least"):
        check_factory(sound, contexts=["alice"])
