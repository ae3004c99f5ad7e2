"""What canaries cost: minting, putting answers into the seen form, and scanning. Figures, no bars."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pytest_ssot_isolation.model.canary import Mint
from pytest_ssot_isolation.model.payload import as_seen
from pytest_ssot_isolation.model.scan import Scanner

KINDS = (str, int, Decimal, datetime, "phone")
mint = Mint(b"the key of this run")
ANSWER = {"id": 3, "title": "groceries", "body": mint.mint(1, 1).value, "tags": ["a", "b"], "done": False}


def scanner(learnt: bool) -> Scanner:
    scanner = Scanner(mint)
    for user in range(200 if learnt else 0):
        for slot, kind in enumerate(KINDS):
            scanner.learn(mint.mint(user, slot, kind))
    return scanner


def told(benchmark: BenchmarkFixture, what: str, size: float, unit: str) -> None:
    if benchmark.stats is not None:
        print(f"\n{what}: {size / benchmark.stats.stats.min:,.2f} {unit}")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_minting(benchmark: BenchmarkFixture, kind: object) -> None:
    assert benchmark(mint.mint, 70_000, 9, kind).user == 70_000


def test_putting_a_small_answer_into_the_seen_form(benchmark: BenchmarkFixture) -> None:
    assert benchmark(as_seen, ANSWER) == ANSWER


def test_scanning_a_small_answer_with_one_canary(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(scanner(False).scan, ANSWER)) == 1


@pytest.mark.parametrize("learnt", [False, True], ids=["text canaries", "canaries of all kinds"])
def test_walking_ordinary_rows(benchmark: BenchmarkFixture, learnt: bool) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    row = {
        "name": "alice",
        "tags": ["red", "green"],
        "total": Decimal("9.5"),
        "at": at,
        "ok": True,
        "note": None,
    }
    rows = [{"id": number, **row, "title": "a short note"} for number in range(2_000)]
    assert benchmark(scanner(learnt).scan, rows) == ()
    told(benchmark, "walking", 2_000 * 9 / 1e6, "M leaves/s")


@pytest.mark.parametrize("learnt", [False, True], ids=["text canaries", "canaries of all kinds"])
def test_reading_a_megabyte_of_prose(benchmark: BenchmarkFixture, learnt: bool) -> None:
    chance = random.Random(1)
    letters = "abdefghijklmnopqrstuvwxyz"
    text = " ".join("".join(chance.choices(letters, k=chance.randint(1, 10))) for _ in range(160_000))[
        :1_000_000
    ]
    assert benchmark(scanner(learnt).scan, text) == ()
    told(benchmark, "prose", 1.0, "MB/s")
