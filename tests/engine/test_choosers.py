"""Walks choose from a seed, and write down what was not the natural choice."""

from __future__ import annotations

from pytest_ssot_isolation.engine.choosers import Laggard
from pytest_ssot_isolation.model.schedule import APP, CLOCK, Position

HERE: Position = (0, 0, 0)


def test_a_laggard_lets_users_go_before_the_applications_own_tasks() -> None:
    walk = Laggard(1)

    assert {walk.choose(HERE, [APP, 1, 0, CLOCK]) for _ in range(20)} == {1}


def test_without_a_user_a_laggard_lets_a_task_go_on_or_time_pass() -> None:
    walk = Laggard(1)

    assert {walk.choose(HERE, [APP, CLOCK]) for _ in range(20)} == {APP, CLOCK}
    assert {walk.picks(HERE, APP, [4, 5]) for _ in range(20)} == {0, 1}
    assert {walk.picks(HERE, 0, [4, 5]) for _ in range(20)} == {0}


def test_the_choices_of_a_laggard_are_written_down() -> None:
    walk = Laggard(1)

    walk.choose(HERE, [APP, 1])

    assert [(anchor.at, anchor.to) for anchor in walk.made().anchors] == [(HERE, 1)]
