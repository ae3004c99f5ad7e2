"""Residue: what users met where others had left it, judged on histories."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_ssot_isolation.model.canary import Canary
from pytest_ssot_isolation.model.history import History, Leftover, Planted, Principal
from pytest_ssot_isolation.oracles import residue

ALICE, BOB, CAROL = 0, 1, 2


def left(
    kind: str, name: str = "", value: object = "", *, by: int | None = ALICE, found: int = BOB
) -> Leftover:
    return Leftover(
        kind=kind,
        name=name,
        value=value,
        place="a connection",
        left_by=by,
        left_in=0,
        found_by=found,
        found_in=1,
    )


def history(*leftovers: Leftover, lawful: frozenset[tuple[int, int]] = frozenset(), **ids: str) -> History:
    names = ("alice", "bob", "carol")
    principals = tuple(
        Principal(
            index=index,
            name=name,
            user_id=ids.get(name, f"{name}-7f3k"),
            tenant_id=f"org-{index}x2",
            serial=index + 1,
        )
        for index, name in enumerate(names)
    )
    return History(principals=principals, leftovers=leftovers, lawful=lawful)


def judged(*leftovers: Leftover, **options: Any) -> list[tuple[str, str, str | None, str | None]]:
    judgement = residue.judge(history(*leftovers, **options), lambda seen: ())
    return [(f.severity, f.path, f.victim, f.offender) for f in judgement.findings]


def test_nothing_left_is_no_finding() -> None:
    assert judged() == []


@pytest.mark.parametrize(
    ("leftover", "path"),
    [
        (left("setting", "app.user_id", "alice-7f3k"), "setting app.user_id"),
        (left("setting", "app.plan", "gold"), "setting app.plan"),
        (left("setting", "application_name", "web for alice-7f3k"), "setting application_name"),
        (left("role", "", "clerk_of_alice"), "role"),
        (left("search_path", "", "org_one, public"), "search_path"),
        (left("temporary table", "basket"), "temporary table"),
        (left("channel", "orders"), "channel"),
        (left("advisory lock", "0:42:1"), "advisory lock"),
        (left("transaction", "", "open"), "transaction"),
        (left("prepared statement", "of_alice-7f3k"), "prepared statement"),
        (left("context variable", "acting", "alice-7f3k"), "context variable"),
        (left("context variable", "request", {"user": "alice-7f3k"}), "context variable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_another_users_is_a_leak(leftover: Leftover, path: str) -> None:
    assert judged(leftover) == [("leak", path, "alice", "bob")]


@pytest.mark.parametrize(
    "leftover",
    [
        left("setting", "statement_timeout", "9000"),
        left("prepared statement", "find_orders"),
        left("context variable", "library", "asyncio"),
    ],
    ids=["a setting of the server", "a prepared statement", "a library's context variable"],
)
def test_what_is_merely_untidy_is_a_hint(leftover: Leftover) -> None:
    assert judged(leftover) == [
        ("hint", leftover.kind + (" statement_timeout" if leftover.kind == "setting" else ""), "alice", "bob")
    ]


def test_what_everybody_leaves_alike_is_a_hint_unless_it_names_somebody_or_locks() -> None:
    def by_both(kind: str, name: str = "", value: str = "") -> list[str]:
        told = judged(left(kind, name, value), left(kind, name, value, by=CAROL))
        return [severity for severity, *_ in told]

    assert by_both("setting", "app.region", "eu") == ["hint"]
    assert by_both("role", "", "clerk") == ["hint"]
    assert by_both("setting", "app.user_id", "alice-7f3k") == ["leak"]
    assert by_both("advisory lock", "0:42:1") == ["leak"]


def test_what_the_finder_may_see_is_no_finding() -> None:
    assert judged(left("role", "", "clerk"), lawful=frozenset({(BOB, ALICE)})) == []


def test_a_value_that_names_the_finder_says_nothing_of_another() -> None:
    assert judged(left("context variable", "current", "bob-7f3k", by=None)) == []
    assert judged(left("context variable", "current", {"user_id": "alice-7f3k"}, by=None)) == [
        ("leak", "context variable", "alice", "bob")
    ]


def test_of_two_ids_one_within_the_other_the_longer_is_meant() -> None:
    told = judged(left("context variable", "current", "alice-7", by=None), alice="alice", bob="alice-7")

    assert told == []


def test_a_short_id_inside_a_longer_text_is_taken_for_chance() -> None:
    assert judged(left("setting", "application_name", "batch"), alice="at") == [
        ("hint", "setting application_name", "alice", "bob")
    ]


def test_a_canary_names_its_owner() -> None:
    class Mark:
        user, slot, path, encoding, weak = 1, 5, "", "plain", False

    planted = {
        (1, 5): Planted(canary=Canary(1, 5, "str", "cq", weak=False), owner=ALICE, call=0, argument="body")
    }
    seen = history(left("context variable", "draft", "cq", by=None))
    seen = History(principals=seen.principals, leftovers=seen.leftovers, planted=planted)

    (finding,) = residue.judge(seen, lambda value: [Mark()] if value == "cq" else []).findings

    assert (finding.victim, finding.offender, finding.channel) == ("alice", "bob", "thread")


def test_a_bug_is_told_once_and_at_its_worst() -> None:
    mild, bad = (
        left("setting", "application_name", "x"),
        left("setting", "application_name", "alice-7f3k", found=CAROL),
    )

    assert judged(mild, bad, bad) == [("leak", "setting application_name", "alice", "carol")]


def test_the_reason_says_what_was_met_and_how_it_ends() -> None:
    (finding,) = residue.judge(history(left("role", "", "clerk")), lambda seen: ()).findings

    assert finding.explanation == (
        "bob was given a connection that still carried the role 'clerk', as alice had left it (ends with RESET ROLE)"
    )
