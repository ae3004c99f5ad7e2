"""What was alive before a hunt is out of the collector's sight while it lasts."""

from __future__ import annotations

import gc

from pytest_ssot_isolation.engine import heap


def test_what_was_there_before_is_set_aside_and_comes_back() -> None:
    before = gc.get_freeze_count()
    kept = [object()]

    with heap.set_aside():
        assert not any(each is kept for each in gc.get_objects())
    assert any(each is kept for each in gc.get_objects())
    assert gc.get_freeze_count() <= before


def test_what_the_application_set_aside_itself_stays_so() -> None:
    gc.freeze()
    try:
        with heap.set_aside():
            pass
        assert gc.get_freeze_count() > heap.OF_THE_INTERPRETER
    finally:
        gc.unfreeze()
