"""The aliasing oracle: which objects two users have in common."""

from __future__ import annotations

import asyncio
import enum
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_ssot_isolation.oracles.aliasing import Baseline, shared_among, shared_objects


class Session:
    def __init__(self, user: str, **more: object) -> None:
        self.user = user
        self.cart: list[str] = [user]
        self.__dict__.update(more)


class Slotted:
    __slots__ = ("__hidden", "kept")

    def __init__(self, kept: object) -> None:
        self.kept = kept
        self.__hidden: list[str] = []


@dataclass(frozen=True)
class Setting:
    name: str = "plain"
    tags: list[str] = field(default_factory=list)


class Colour(enum.Enum):
    RED = 1


def paths(a: object, b: object, **more: Any) -> list[str]:
    return [shared.paths[0] for shared in shared_objects(a, b, **more).shared]


def test_two_sessions_with_nothing_in_common_share_nothing() -> None:
    assert paths(Session("alice"), Session("bob")) == []


def test_a_list_in_both_sessions_is_named_with_the_way_to_it_from_each() -> None:
    basket: list[str] = []

    overlap = shared_objects(Session("alice", basket=basket), Session("bob", seen={"last": (1, basket)}))

    (shared,) = overlap.shared
    assert (shared.kind, shared.holders) == ("list", (0, 1))
    assert shared.paths == ("Session.basket", "Session.seen['last'][1]")
    assert shared.target is basket


def test_of_a_shared_part_only_the_top_is_told() -> None:
    whole: dict[str, Any] = {"inner": [{"deep": []}]}

    assert paths(Session("alice", whole=whole), Session("bob", whole=whole)) == ["Session.whole"]


def test_the_same_object_given_to_both_is_the_shared_object() -> None:
    session = Session("alice")

    assert paths(session, session) == ["Session"]


def test_a_shared_list_is_found_in_slots_and_under_a_frozen_value() -> None:
    setting = Setting()

    assert paths(Slotted(setting), Slotted(setting)) == ["Slotted.kept.tags"]


def test_a_default_argument_caught_in_a_closure_is_found() -> None:
    def make(user: str, seen: list[str] = []) -> Callable[[], tuple[str, list[str]]]:  # noqa: B006
        return lambda: (user, seen)

    assert len(paths(make("alice"), make("bob"))) == 1


@pytest.mark.parametrize(
    "harmless",
    [
        "text",
        (1, 2),
        frozenset({1}),
        uuid.UUID(int=1),
        Colour.RED,
        logging.getLogger("shared"),
        Setting,
        paths,
        asyncio,
        asyncio.Lock(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_nobody_can_change_or_read_another_by_may_be_shared(harmless: object) -> None:
    assert paths(Session("alice", kept=harmless), Session("bob", kept=harmless)) == []


def test_a_shared_queue_is_no_harmless_lock() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()

    assert paths(Session("alice", queue=queue), Session("bob", queue=queue)) == ["Session.queue"]


def test_what_the_world_reached_before_anybody_acted_may_be_shared_and_what_came_later_may_not() -> None:
    world: dict[str, Any] = {"settings": {"size": 1}}
    baseline = Baseline([world])
    later = world["cache"] = []

    assert paths(Session("alice", world=world), Session("bob", world=world), baseline=baseline) == []
    assert paths(Session("alice", x=later), Session("bob", x=later), baseline=baseline) == ["Session.x"]


def test_instances_of_an_allowed_type_may_be_shared() -> None:
    pool = Slotted([])

    assert paths(Session("alice", pool=pool), Session("bob", pool=pool), allow=(Slotted,)) == []


def test_the_walk_ends_at_its_limit_and_says_so() -> None:
    large = [[number] for number in range(300)]

    overlap = shared_objects(Session("alice", large=large), Session("bob"), limit=200)

    assert overlap.is_capped
    assert overlap.walked <= 200


def test_a_watched_word_is_told_for_each_who_reaches_it() -> None:
    overlap = shared_among(
        [Session("alice"), Session("bob", friend={"of": ["alice"]})], watch=("alice", "bob")
    )

    assert overlap.words == (frozenset({"alice"}), frozenset({"alice", "bob"}))
