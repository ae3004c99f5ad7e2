"""The connection metrics: what they sum up to."""

from __future__ import annotations

from array import array

import pytest

from pytest_ssot_isolation.provisioning.metrics import ConnectionMetrics, Spread


def test_nothing_seen_is_all_zeros() -> None:
    metrics = ConnectionMetrics()

    assert metrics.connects == metrics.waits == metrics.holds == Spread(0, 0.0, 0.0, 0.0)
    assert metrics.failures == 0


@pytest.mark.parametrize(
    ("seconds", "median", "p95", "maximum"),
    [
        ([3.0], 3.0, 3.0, 3.0),
        ([2.0, 1.0], 1.0, 2.0, 2.0),
        ([3.0, 1.0, 2.0], 2.0, 3.0, 3.0),
        ([float(number) for number in range(100, 0, -1)], 50.0, 95.0, 100.0),
    ],
)
def test_a_spread_is_the_nearest_rank(
    seconds: list[float], median: float, p95: float, maximum: float
) -> None:
    assert Spread.of(array("d", seconds)) == Spread(len(seconds), median, p95, maximum)


def test_each_kind_is_counted_apart() -> None:
    metrics = ConnectionMetrics()
    metrics.connected(1.0)
    metrics.waited(2.0)
    metrics.waited(2.0)
    metrics.held(3.0)
    metrics.failed()

    assert (metrics.connects.maximum, metrics.waits.maximum, metrics.holds.maximum) == (1.0, 2.0, 3.0)
    assert (metrics.connects.count, metrics.waits.count, metrics.holds.count, metrics.failures) == (
        1,
        2,
        1,
        1,
    )
