"""``oracles=("aliasing", ...)``: one mutable object in the hands of two users is told as a hint."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_ssot_isolation import Surface, operation
from pytest_ssot_isolation.model.verdict import Verdict


class Desk:
    """Gives everybody a list to write on; the careless one keeps handing out its spare."""

    def __init__(self, *, careless: bool) -> None:
        self.careless = careless
        self.spare: list[list[str]] = []

    def sheet(self) -> list[str]:
        if not self.careless or not self.spare:
            self.spare.append([])
        return self.spare[-1]


class Writes(Surface[Desk]):
    """Takes a sheet and keeps it."""

    @operation
    async def take(self) -> int:
        self.sheet = self.world.sheet()
        return 1


@pytest.mark.parametrize("careless", [True, False])
def test_an_object_that_two_users_hold_is_a_hint_with_the_way_to_it(check: Any, careless: bool) -> None:
    options = {"oracles": ("canary", "aliasing"), "examples": 5, "users": 2}
    report = check(Writes, world=lambda: Desk(careless=careless), **options)

    told = [(f.oracle, f.severity, f.path, len(f.calls)) for f in report.findings]
    assert told == ([("aliasing", "hint", "['sheet']", 2)] if careless else [])
    assert report.verdict is Verdict.CLEAN


def test_it_is_looked_for_only_where_it_is_asked_for(check: Any) -> None:
    assert check(Writes, world=lambda: Desk(careless=True), examples=5, users=2).findings == ()


def test_a_hint_does_not_end_a_hunt_that_ends_at_the_first_finding(check: Any) -> None:
    options = {"oracles": ("canary", "aliasing"), "examples": 5, "users": 2}
    report = check(Writes, world=lambda: Desk(careless=True), stop_at_first=True, **options)

    assert [(f.severity, report.examples) for f in report.findings] == [("hint", 5)]
