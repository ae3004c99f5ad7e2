"""The orders in which calls that overlapped may have taken effect."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_ssot_isolation.engine.orders import orders
from pytest_ssot_isolation.model.history import History, Observation, Outcome, Principal, name_of
from pytest_ssot_isolation.model.program import Call, Program

ALICE, BOB, CAROL = range(3)
PEOPLE = tuple(Principal(index=user, name=name_of(user)) for user in (ALICE, BOB, CAROL))


def seen(call: int, user: int, operation: str, began: int, ended: int) -> Observation:
    return Observation(
        index=call,
        user=user,
        call=call,
        operation=operation,
        channel="result",
        outcome=Outcome.OK,
        seen=None,
        began=began,
        ended=ended,
    )


def tried(*sends: tuple[int, int], inbox: tuple[int, int], path: Sequence[int] = ()) -> list[list[int]]:
    """Orders of two sends and the look into the inbox that is asked about, each with its beginning and its end."""
    calls = (Call(0, ALICE, "send"), Call(1, BOB, "send"), Call(2, CAROL, "inbox"))
    history = History(
        principals=PEOPLE,
        observations=tuple(
            seen(call.id, call.user, call.operation, *times)
            for call, times in zip(calls, (*sends, inbox), strict=True)
        ),
        path=tuple((call, call, 1) for call in path),
    )
    return [[call.id for call in order] for order in orders(Program(calls=calls), history, looked_at=2)]


def test_calls_that_overlap_are_also_tried_as_they_took_a_step_in_their_middle() -> None:
    # Alice begins first and ends first; in between bob is ahead.
    told = tried((0, 3), (1, 4), inbox=(5, 6), path=(0, 1, 1, 1, 0, 0, 0, 1, 2))

    assert told == [[0, 1, 2], [1, 0, 2]]


def test_the_call_that_is_looked_at_is_tried_before_and_after_those_that_it_overlapped() -> None:
    told = tried((0, 1), (2, 5), inbox=(3, 4))

    assert told == [[0, 2, 1], [0, 1, 2]]
