"""No user of the service sees, changes or disturbs what another has: one test for each part of it."""

from __future__ import annotations

from typing import Any

import pytest
import surfaces
from running import CLICKHOUSE_SCHEMA, POSTGRES_SCHEMA, application

pytestmark = [
    pytest.mark.postgres(schema=POSTGRES_SCHEMA),
    pytest.mark.clickhouse(schema=CLICKHOUSE_SCHEMA),
    pytest.mark.isolation(users=3, calls=12),
    pytest.mark.proves(
        "isolation.concurrent-users", controls=("SOC2:CC6.1", "ISO27001:A.8.3", "HIPAA:164.312(a)(1)")
    ),
]


@pytest.fixture
def hold(isolation: Any, postgres: Any, clickhouse: Any) -> Any:
    """Check one surface on the real application, entered anew for each example."""

    def check(surface: type[surfaces.SignedIn], **options: Any) -> None:
        isolation.check(surface, world=lambda: application(postgres, clickhouse), **options)

    return check


def test_a_note_is_read_by_its_writer_only(hold: Any) -> None:
    hold(surfaces.Notes)


def test_a_page_of_notes_lists_ones_own(hold: Any) -> None:
    hold(surfaces.Pages)


@pytest.mark.proves("isolation.databases")
def test_a_search_finds_ones_own(hold: Any) -> None:
    hold(surfaces.Searches)


@pytest.mark.proves("isolation.databases")
def test_an_export_holds_ones_own(hold: Any) -> None:
    hold(surfaces.Exports)


def test_a_count_counts_ones_own(hold: Any) -> None:
    hold(surfaces.Counts)


def test_a_draft_is_seen_by_its_writer_only(hold: Any) -> None:
    hold(surfaces.Drafts)


@pytest.mark.proves("isolation.databases")
def test_a_run_is_read_by_who_started_it(hold: Any) -> None:
    hold(surfaces.Runs)


def test_deleting_a_foreign_run_is_like_deleting_none(hold: Any) -> None:
    # It takes an id of another's in the hands of the one user who is watched just then.
    hold(surfaces.RunDeletion, users=2, calls=20)


@pytest.mark.proves("isolation.databases")
def test_a_usage_summary_sums_ones_own(hold: Any) -> None:
    hold(surfaces.Usage)


@pytest.mark.proves("isolation.contexts")
def test_a_diary_tells_what_one_did_oneself(hold: Any) -> None:
    hold(surfaces.Diary)


@pytest.mark.proves("isolation.contexts")
def test_a_message_is_seen_by_sender_and_addressee(hold: Any) -> None:
    hold(surfaces.Messages)


@pytest.mark.proves("isolation.websockets")
def test_an_event_reaches_the_user_it_concerns(hold: Any) -> None:
    hold(surfaces.Events)


@pytest.mark.proves("isolation.contexts")
def test_an_agent_answers_from_the_notes_of_who_asks(hold: Any) -> None:
    hold(surfaces.Questions)


def test_an_agent_remembers_what_it_was_told_itself(hold: Any) -> None:
    hold(surfaces.Chats)


@pytest.mark.proves("resilience.concurrent-errors")
def test_a_refusal_speaks_of_the_request_it_refuses(hold: Any) -> None:
    hold(surfaces.Refusals)


@pytest.mark.proves("resilience.concurrent-errors", "connections.breaker-per-user")
def test_one_users_failures_shut_out_nobody_else(hold: Any) -> None:
    hold(surfaces.Failures)
