"""The orders in which calls that overlapped may have taken effect, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.history import History
    from pytest_ssot_isolation.model.program import Call, Program

MOST_PLACES = 8
"""Calls of others that one call is tried before and after."""

MOST_STEPS_BACK = 12
"""Steps before the end of a call at which it may have taken effect: a write, what tells of it, and the commit."""


def orders(program: Program, history: History, looked_at: int) -> Iterator[tuple[Call, ...]]:
    """The calls one after another, in the orders in which they may have taken effect.

    With one call at each place that it may have, and the others as they ended, as they began, or as they took one of
    their last steps: calls of one kind take effect at the same one.
    """
    answers = {o.call: o for o in history.observations if o.channel == "result"}
    calls = [call for call in program.calls if call.id in answers]
    if looked_at not in answers:
        return
    it = answers[looked_at]
    (itself,) = (call for call in calls if call.id == looked_at)
    others = [call for call in calls if call.id != looked_at]
    told: set[tuple[int, ...]] = set()
    for moments in _moments(history):
        ordered = sorted(others, key=lambda call: (call.stage, moments[call.id]))
        first = sum(
            answers[c.id].ended < it.began
            or (c.user == itself.user and c.stage <= itself.stage and answers[c.id].began < it.began)
            for c in ordered
        )
        last = sum(answers[c.id].began < it.ended for c in ordered)
        for place in range(first, min(last, first + MOST_PLACES) + 1):
            order = (*ordered[:place], itself, *ordered[place:])
            if (ids := tuple(call.id for call in order)) not in told:
                told.add(ids)
                yield order


def _moments(history: History) -> Iterator[Mapping[int, tuple[int, int]]]:
    """When each call may have taken effect, at its end, at its beginning, or earlier and earlier before its end."""
    answers = [o for o in history.observations if o.channel == "result"]
    yield {o.call: (o.ended, 0) for o in answers}
    yield {o.call: (o.began, 0) for o in answers}
    steps: dict[int, list[int]] = {o.call: [] for o in answers}
    for place, (_, call, _) in enumerate(history.path):
        if call in steps:
            steps[call].append(place)
    for back in range(1, MOST_STEPS_BACK + 1):
        yield {o.call: (_before_the_end(steps[o.call], back), o.ended) for o in answers}


def _before_the_end(steps: Sequence[int], back: int) -> int:
    return steps[-back] if back <= len(steps) else 0
