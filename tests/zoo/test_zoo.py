"""Each planted leak is found by the oracle meant for it and made small; each safe twin is clean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Verdict

from .exhibits import Row, read_zoo
from .hunt import check

SEED = 1
FAMILIES = range(1, 15)
ZOO = read_zoo()
FIRST_OF_FAMILY = {row.family: row.name for row in reversed(ZOO)}
"""Plain ``pytest`` runs these; ``-m "zoo or not zoo"`` runs all."""


def rows() -> list[Any]:
    """The table, with the marks by which rows are chosen."""
    chosen = []
    for row in ZOO:
        marks = [] if FIRST_OF_FAMILY[row.family] == row.name else [pytest.mark.zoo]
        chosen.append(pytest.param(row, id=row.name, marks=marks))
    return chosen


each_leak = pytest.mark.parametrize("row", rows())
each_twin = pytest.mark.parametrize("row", rows())
Hunt = Callable[..., Report]


@pytest.fixture
def hunt(request: pytest.FixtureRequest) -> Hunt:
    """Checks the leaky application of a row, or its safe twin, in the profile ``quick``."""

    def run(row: Row, *, leaky: bool, **options: Any) -> Report:
        database = request.getfixturevalue(row.needs) if row.needs else None
        # With a server two seconds are a handful of programs; the default profile is what the row promises.
        profile = "default" if row.needs else "quick"
        return check(row, leaky=leaky, seed=SEED, profile=profile, database=database, **options)

    return run


@each_leak
def test_the_leak_is_found_by_the_oracle_meant_for_it_and_made_small(row: Row, hunt: Hunt) -> None:
    report = hunt(row, leaky=True, stop_at_first=True)

    assert report.verdict is Verdict.LEAK
    meant = [finding for finding in report.findings if finding.oracle in row.oracles]
    assert meant, f"found by {[finding.oracle for finding in report.findings]}"
    assert len(meant[0].calls) <= row.fewest_calls + 2, "\n".join(meant[0].calls)


@each_twin
def test_the_safe_twin_is_clean(row: Row, hunt: Hunt) -> None:
    options = {"examples": 20} if row.needs else {}

    report = hunt(row, leaky=False, **options)

    assert report.verdict is Verdict.CLEAN, (report.findings, report.reasons)
    assert not report.findings


def test_the_zoo_has_leaks_of_every_family() -> None:
    of_family = Counter(row.family for row in ZOO)

    assert set(of_family) == set(FAMILIES)
    assert min(of_family.values()) >= 3
    assert len(ZOO) >= 60


def test_most_leaks_need_no_server_and_the_servers_have_theirs() -> None:
    needs = Counter(row.needs for row in ZOO)

    assert needs[""] >= 45
    assert needs["postgres"] >= 12
    assert needs["clickhouse"] >= 6


def test_at_most_three_rows_are_said_to_be_deep() -> None:
    assert sum(row.is_deep for row in ZOO) <= 3


def test_every_row_has_its_exhibit_and_every_exhibit_its_row() -> None:
    named = {(row.module, row.name) for row in ZOO}

    for row in ZOO:
        assert row.exhibit.leaky is not None
    modules = {module for module, _ in named}
    for module in modules:
        first = next(row for row in ZOO if row.module == module)
        assert {name for of, name in named if of == module} == exhibits_of(first)


def exhibits_of(row: Row) -> set[str]:
    """Names of what the row's module exhibits."""
    import importlib

    return set(importlib.import_module(f"{__package__}.{row.module}").EXHIBITS)


def test_some_leaks_are_meant_for_each_comparing_oracle() -> None:
    oracles = {row.oracle for row in ZOO}

    assert {"canary", "noninterference", "integrity", "availability"} <= oracles


def test_every_family_has_a_leak_that_shows_no_secret() -> None:
    meant = {family: {row.oracle for row in ZOO if row.family == family} for family in FAMILIES}

    assert [family for family, oracles in meant.items() if oracles <= {"canary"}] == []


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name) for row in ZOO if row.module == "numbers_and_limits"]
)
def test_a_count_or_a_limit_is_told_by_no_canary(row: Row, hunt: Hunt) -> None:
    report = hunt(row, leaky=True, oracles=("canary",), examples=15)

    assert "canary" not in {finding.oracle for finding in report.findings}
