"""The collector is kept off during a hunt, and runs between two runs; what was alive before is out of its sight."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from pytest_ssot_isolation.engine import heap


class Ring:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    gc.enable()


def due() -> list[list[object]]:
    """So many objects that the collector would run."""
    return [[] for _ in range(2 * gc.get_threshold()[0] + 100)]


def test_what_was_there_before_is_set_aside_and_comes_back() -> None:
    before = gc.get_freeze_count()
    kept = [object()]

    with heap.Collector().held():
        assert not any(each is kept for each in gc.get_objects())
    assert any(each is kept for each in gc.get_objects())
    assert gc.get_freeze_count() <= before


def test_what_the_application_set_aside_itself_stays_so() -> None:
    gc.freeze()
    try:
        with heap.Collector().held():
            pass
        assert gc.get_freeze_count() > heap.OF_THE_INTERPRETER
    finally:
        gc.unfreeze()


def test_it_runs_between_two_runs_and_not_within_one() -> None:
    collector = heap.Collector()
    with collector.held():
        gone = weakref.ref(Ring())
        kept = due()
        assert gone() is not None

        collector.run_if_due()
        assert gone() is None
        assert not gc.isenabled()
    assert kept
    assert gc.isenabled()


def test_who_keeps_it_off_altogether_is_obeyed() -> None:
    collector = heap.Collector()
    gc.disable()
    with collector.held():
        gone = weakref.ref(Ring())
        kept = due()
        collector.run_if_due()
        assert gone() is not None
    assert kept
    assert not gc.isenabled()


def test_outside_of_a_hunt_it_is_left_alone() -> None:
    heap.Collector().run_if_due()
    assert gc.isenabled()
