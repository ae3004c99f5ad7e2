"""What a weakened guard came to: killed, survived, not reached, broken or not tried; each is said as such."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import pytest

from pytest_ssot_isolation.errors import IsolationError
from pytest_ssot_isolation.mutation.guards import Reach, Stage
from pytest_ssot_isolation.mutation.self_test import MOST, SelfTest, Trial

IN_FORCE: list[str] = []


@dataclass
class Door:
    """A guard that notes when it is open."""

    place: str
    cannot: bool = False
    is_idle: bool = False

    @contextmanager
    def weakened(self) -> Iterator[Reach]:
        if self.cannot:
            raise IsolationError("a session holds a lock")
        IN_FORCE.append(self.place)
        try:
            yield Reach()
        finally:
            IN_FORCE.remove(self.place)


@dataclass
class Doors:
    doors: Sequence[Door] = ()

    def recording(self) -> nullcontext[None]:
        return nullcontext()

    def found(self) -> Sequence[Door]:
        return self.doors

    def absent(self) -> str:
        return "there is no door"


def attempt(seconds: float, reach: Reach) -> Trial:
    (place,) = IN_FORCE
    reach.count = 0 if place == "unused" else 3
    return {
        "watched": Trial(by="canary in read", examples=2),
        "stuck": Trial(trouble="Notes.read never succeeded any more: SyntaxError"),
    }.get(place, Trial(examples=9))


def outcomes(*doors: Door) -> dict[str, str]:
    tested = SelfTest(Stage(), {"drop_where": Doors(doors)}).run(attempt, 1.0)
    return {one.place: one.outcome for one in tested.mutants}


def test_each_outcome_by_its_name() -> None:
    doors = [Door(place) for place in ("watched", "unwatched", "unused", "stuck")]

    assert outcomes(*doors, Door("locked", cannot=True), Door("watched too", is_idle=True)) == {
        "watched": "killed",
        "unwatched": "survived",
        "unused": "not reached",
        "stuck": "broken",
        "locked": "broken",
        "watched too": "not reached",
    }
    assert IN_FORCE == []


def test_what_is_broken_or_not_reached_counts_for_nothing() -> None:
    doors = Doors([Door("watched"), Door("unwatched"), Door("unused"), Door("stuck")])

    assert SelfTest(Stage(), {"drop_where": doors}).run(attempt, 1.0).score == 0.5


def test_a_bound_on_their_number_leaves_no_name_out_and_names_the_rest() -> None:
    many, one = Doors([Door(f"unwatched {n}") for n in range(MOST + 5)]), Doors([Door("watched")])

    tested = SelfTest(Stage(), {"drop_where": many, "cache_key": one}).run(attempt, 1.0)

    assert tested.killed == ("cache_key: watched",)
    assert len(tested.named("not tried")) == 6


def test_a_mutation_without_a_guard_says_where_it_looked() -> None:
    assert SelfTest(Stage(), {"force_rls": Doors()}).run(attempt, 1.0).absent == (
        "force_rls: there is no door",
    )


def test_an_interrupt_closes_what_was_open() -> None:
    def interrupted(seconds: float, reach: Reach) -> Trial:
        assert IN_FORCE
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SelfTest(Stage(), {"drop_where": Doors([Door("watched")])}).run(interrupted, 1.0)
    assert IN_FORCE == []
