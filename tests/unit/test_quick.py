"""Frozen values that are filled while open are like any other once they are made."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from pytest_ssot_isolation.model.quick import quick


@quick
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 2
    name: str = "p"


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    first: str
    last: str = ""


def test_fields_and_defaults_are_set_as_ever() -> None:
    assert (Point(1).x, Point(1).y, Point(1, 5, name="q")) == (1, 2, Point(x=1, y=5, name="q"))
    assert repr(Point(1)) == "Point(x=1, y=2, name='p')"
    assert Named(first="a") == Named(first="a", last="")


def test_it_is_of_its_own_class_frozen_and_a_key() -> None:
    point = Point(1)
    assert type(point) is Point
    with pytest.raises((FrozenInstanceError, TypeError)):
        point.x = 3  # type: ignore[misc]
    assert point.x == 1
    assert {Point(1): "here"}[point] == "here"


def test_it_is_copied_replaced_and_pickled() -> None:
    point = Point(1, 7)
    assert replace(point, x=4) == Point(4, 7)
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
    match point:
        case Point(x, y):
            assert (x, y) == (1, 7)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="x"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        Named("a")  # type: ignore[call-arg]


def test_what_it_cannot_fill_is_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class Listed:
        items: list[int] = field(default_factory=list)

    with pytest.raises(TypeError, match="Listed is no dataclass"):
        quick(Listed)
