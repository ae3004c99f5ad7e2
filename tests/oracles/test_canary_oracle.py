"""The canary oracle on stories, without an application."""

from __future__ import annotations

from typing import Any

from pytest_ssot_isolation.model.verdict import Verdict
from pytest_ssot_isolation.oracles import canary


def test_reading_another_users_canary_is_a_leak(story: Any, told: Any) -> None:
    history = story("""
        alice@A  write  plants C1
        bob@B    read   sees C1
    """)

    judgement = canary.judge(history, story.scan)

    assert judgement.verdict is Verdict.LEAK
    assert told(judgement) == [("alice", "bob", "read")]
    assert judgement.findings[0].explanation == (
        "it shows a canary of alice, and bob may not see what is alice's"
    )


def test_reading_ones_own_canary_again_is_the_positive_control(story: Any) -> None:
    history = story("""
        alice@A  write  plants C1
        alice@A  read   sees C1
        bob@B    read   sees nothing
    """)

    judgement = canary.judge(history, story.scan)

    assert judgement.verdict is Verdict.CLEAN
    assert judgement.controls == {0}


def test_an_echo_of_what_was_just_sent_proves_nothing(story: Any) -> None:
    history = story("""
        alice@A  write  plants C1
        bob@B    read   sees nothing
    """)
    echo = history.observations[0].__class__
    own = history.observations[0]

    def with_(channel: str) -> Any:
        told_back = echo(
            index=9, user=0, call=own.call, operation="write", channel=channel, outcome=own.outcome, seen="C1"
        )
        return type(history)(
            principals=history.principals,
            observations=(*history.observations, told_back),
            planted=history.planted,
            bound=history.bound,
        )

    assert canary.judge(with_("result"), story.scan).controls == frozenset()
    assert canary.judge(with_("websocket"), story.scan).controls == {0}, (
        "what is pushed back went the whole way"
    )


def test_what_only_a_log_shows_is_no_control(story: Any) -> None:
    history = story("""
        alice@A  write  plants C1
        alice@A  log    sees C1
    """)

    assert canary.judge(history, story.scan).controls == frozenset()


def test_a_log_record_with_anothers_value_is_a_leak(story: Any) -> None:
    history = story("""
        alice@A  write  plants C1
        bob@B    log    sees C1
    """)

    (finding,) = canary.judge(history, story.scan).findings

    assert (finding.channel, finding.victim, finding.offender) == ("log", "alice", "bob")


def test_an_error_that_quotes_anothers_value_is_a_leak(story: Any, told: Any) -> None:
    history = story("""
        alice@A  write  plants C1
        bob@B    write  sees C1   fails
    """)

    assert told(canary.judge(history, story.scan)) == [("alice", "bob", "write")]


def test_a_message_may_be_read_by_the_one_it_is_addressed_to_and_by_nobody_else(
    story: Any, told: Any
) -> None:
    history = story(
        """
        alice@A  send   plants C1
        bob@B    inbox  sees C1
        carol@C  inbox  sees C1
        """,
        to={"C1": "bob"},
    )

    judgement = canary.judge(history, story.scan)

    assert told(judgement) == [("alice", "carol", "inbox")]
    assert judgement.controls == {0}, "the addressee's reading counts as a control"


def test_what_was_published_may_be_read_by_all(story: Any) -> None:
    history = story(
        """
        alice@A  post  plants C1
        bob@B    wall  sees C1
        """,
        public=["C1"],
    )

    assert canary.judge(history, story.scan).verdict is Verdict.CLEAN


def test_who_may_see_another_may_see_that_ones_canaries_but_not_the_other_way_round(
    story: Any, told: Any
) -> None:
    text = """
        alice@A  write  plants C1
        admin@A  write  plants C2
        admin@A  read   sees C1
        alice@A  read   sees C2
    """

    judgement = canary.judge(story(text, lawful=[("admin", "alice")]), story.scan)

    assert told(judgement) == [("admin", "alice", "read")]


def test_one_narrow_value_is_not_enough_to_accuse_anybody(story: Any) -> None:
    history = story("""
        alice@A  write  plants W1
        bob@B    read   sees W1
    """)

    assert canary.judge(history, story.scan).verdict is Verdict.CLEAN


def test_two_narrow_values_of_one_owner_are_no_chance(story: Any, told: Any) -> None:
    history = story("""
        alice@A  write  plants W1
        alice@A  write  plants W2
        bob@B    read   sees W1, W2
    """)

    assert told(canary.judge(history, story.scan)) == [("alice", "bob", "read")]


def test_a_canary_of_an_earlier_example_has_a_victim_without_a_name(story: Any) -> None:
    history = story("""
        alice@A  write  plants C1
        bob@B    read   sees C99
    """)

    (finding,) = canary.judge(history, story.scan).findings

    assert (finding.victim, finding.victim_index, finding.victim_serial) == (
        "a user of an earlier example",
        None,
        99,
    )
    assert "left by an earlier run" in finding.explanation


def test_without_a_planted_canary_nothing_can_be_said(story: Any) -> None:
    judgement = canary.judge(story("alice@A  read  sees nothing"), story.scan)

    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.reason == "no canary was planted, so no read could have shown one"


def test_the_same_leak_in_many_calls_is_told_once_for_each_operation(story: Any, told: Any) -> None:
    history = story("""
        alice@A  write   plants C1
        bob@B    read    sees C1
        bob@B    read    sees C1
        bob@B    search  sees C1
    """)

    assert told(canary.judge(history, story.scan)) == [("alice", "bob", "read"), ("alice", "bob", "search")]
