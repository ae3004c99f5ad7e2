"""The time-outs: in seconds, by environment, each settable, nothing else accepted."""

from __future__ import annotations

import dataclasses
import math

import pytest

from pytest_ssot_isolation.errors import InvalidTimeout
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

each_environment = pytest.mark.parametrize("environment", ["local", "ci", "container"])
each_name = pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(DatabaseTimeoutConfig)]
)


@each_environment
@each_name
def test_each_time_out_can_be_set_in_each_environment(environment: str, name: str) -> None:
    chosen = DatabaseTimeoutConfig.for_environment(environment, **{name: 1.5})

    assert getattr(chosen, name) == 1.5
    others = {field.name for field in dataclasses.fields(chosen)} - {name}
    plain = DatabaseTimeoutConfig.for_environment(environment)
    assert all(getattr(chosen, other) == getattr(plain, other) for other in others)


@each_name
def test_ci_and_a_cold_container_get_no_less_time_than_a_developers_machine(name: str) -> None:
    local, ci, container = (
        DatabaseTimeoutConfig.for_environment(place) for place in ("local", "ci", "container")
    )

    assert getattr(local, name) <= min(getattr(ci, name), getattr(container, name))


def test_an_unknown_environment_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InvalidTimeout, match=r"no time-outs for 'moon'.\nUse one of 'local', 'ci', 'container'"
    ):
        DatabaseTimeoutConfig.for_environment("moon")


def test_an_unknown_time_out_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidTimeout, match=r"no time-out named 'conect'.\nUse one of start, pull, connect"):
        DatabaseTimeoutConfig.for_environment("local", conect=1.0)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_a_time_out_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidTimeout, match=r"'connect' is .*: it has to be a finite number above zero"):
        DatabaseTimeoutConfig(connect=seconds)


@pytest.mark.parametrize("seconds", ["5", True, None])
def test_a_time_out_that_is_no_number_is_refused(seconds: object) -> None:
    with pytest.raises(InvalidTimeout, match=r"'connect' is .*, which is no number"):
        DatabaseTimeoutConfig(connect=seconds)  # type: ignore[arg-type]
