"""What a reader is told when an example takes other steps than it was recorded with."""

from __future__ import annotations

from pytest_ssot_isolation.errors import ReplayMismatch


def test_the_first_step_that_differs_is_told_with_what_to_do() -> None:
    error = ReplayMismatch.at_step(((0, 0), (1, 0), (-1, 2)), ((0, 0), (-2, 0)))

    assert str(error) == (
        "The example did not run as it was recorded: at step 1 it was user 1, task 0, now it is time.\n"
        "To fix this, replay it with the code it was recorded with, or run the check anew: the application takes "
        "other steps today."
    )


def test_a_run_that_ended_early_is_told_as_such() -> None:
    assert "it was the application, task 2, now it is the end." in str(ReplayMismatch.at_step(((-1, 2),), ()))


def test_where_requests_were_under_way_together_the_server_may_have_decided() -> None:
    error = ReplayMismatch.at_step(((0, 0),), ((1, 0),), in_flight=True)

    assert str(error).endswith(
        "Requests of several users were under way together when it was recorded, and a server that is no part of this "
        "process takes them up in an order of its own: try it again a few times first."
    )
