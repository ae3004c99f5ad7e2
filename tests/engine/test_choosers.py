"""Walks choose from a seed, and write down what was not the natural choice."""

from __future__ import annotations

from pytest_ssot_isolation.engine.choosers import Alongside, Laggard
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


MINE = frozenset({1, 2})


def test_the_applications_own_tasks_go_on_where_they_did_between_the_users_steps() -> None:
    walk = Alongside([(0, 1, 0), (3, 9, 0), (0, 2, 1), (APP, -1, 0), (0, 2, 1)], MINE, to_rest=False)

    walk.began(0, 1)
    assert walk.choose(HERE, [APP, 0]) == 0
    walk.stepped(0, 1, 0)
    walk.began(0, 2)
    assert walk.choose(HERE, [APP, 0]) == 0
    walk.stepped(0, 2, 1)
    assert walk.choose(HERE, [0, APP]) == APP
    walk.stepped(APP, -1, 0)
    assert walk.choose(HERE, [APP, 0]) == 0


def test_where_the_application_has_nothing_to_do_its_place_has_passed() -> None:
    walk = Alongside([(0, 1, 0), (APP, -1, 0), (0, 2, 1), (0, 2, 1)], MINE, to_rest=True)

    walk.began(0, 1)
    walk.stepped(0, 1, 0)
    walk.began(0, 2)
    walk.stepped(0, 2, 1)  # there was nobody else to choose

    assert walk.choose(HERE, [APP, 0]) == 0


def test_a_task_may_go_on_until_it_is_at_rest() -> None:
    walk = Alongside([(APP, -1, 0), (0, 1, 0)], MINE, to_rest=True)

    walk.began(0, 1)
    assert walk.choose(HERE, [0, APP]) == APP
    walk.stepped(APP, -1, 0)
    assert walk.choose(HERE, [0, APP]) == APP
    walk.stepped(APP, -1, 0)
    assert walk.choose(HERE, [0]) == 0


def test_a_task_for_which_a_user_waits_goes_on_without_a_place() -> None:
    walk = Alongside([(0, 1, 0)], MINE, to_rest=False)

    walk.began(0, 1)

    assert walk.choose(HERE, [APP]) == APP
