"""No user of the service sees, changes or disturbs what another has: one test for each part of it."""

from __future__ import annotations

from typing import Any

import pytest
import surfaces
from running import CLICKHOUSE_SCHEMA, POSTGRES_SCHEMA, running

pytestmark = [
    pytest.mark.postgres(schema=POSTGRES_SCHEMA),
    pytest.mark.clickhouse(schema=CLICKHOUSE_SCHEMA),
    pytest.mark.isolation(users=3, calls=12, examples=8),
]


@pytest.fixture
def hold(isolation: Any, postgres: Any, clickhouse: Any) -> Any:
    """Check one surface on the real application, entered anew for each example."""

    def check(surface: type[surfaces.SignedIn], **options: Any) -> None:
        isolation.check(surface, world=lambda: running(postgres, clickhouse), **options)

    return check


def test_a_note_is_read_by_its_writer_only(hold: Any) -> None:
    hold(surfaces.Notes)


def test_a_page_of_notes_lists_ones_own(hold: Any) -> None:
    hold(surfaces.Pages)


def test_a_search_finds_ones_own(hold: Any) -> None:
    hold(surfaces.Searches)


def test_an_export_holds_ones_own(hold: Any) -> None:
    hold(surfaces.Exports)


def test_a_count_counts_ones_own(hold: Any) -> None:
    hold(surfaces.Counts)


def test_a_draft_is_seen_by_its_writer_only(hold: Any) -> None:
    hold(surfaces.Drafts)


def test_a_run_is_read_by_who_started_it(hold: Any) -> None:
    hold(surfaces.Runs)


def test_deleting_a_foreign_run_is_like_deleting_none(hold: Any) -> None:
    # It takes an id of another's in the hands of the one user who is watched just then.
    hold(surfaces.RunDeletion, users=2, calls=20, examples=20)


def test_a_usage_summary_sums_ones_own(hold: Any) -> None:
    hold(surfaces.Usage)


def test_a_diary_tells_what_one_did_oneself(hold: Any) -> None:
    hold(surfaces.Diary)


def test_a_message_is_seen_by_sender_and_addressee(hold: Any) -> None:
    hold(surfaces.Messages)


def test_an_event_reaches_the_user_it_concerns(hold: Any) -> None:
    hold(surfaces.Events)


def test_an_agent_answers_from_the_notes_of_who_asks(hold: Any) -> None:
    hold(surfaces.Questions)


def test_an_agent_remembers_what_it_was_told_itself(hold: Any) -> None:
    hold(surfaces.Chats)


def test_a_refusal_speaks_of_the_request_it_refuses(hold: Any) -> None:
    hold(surfaces.Refusals)


def test_one_users_failures_shut_out_nobody_else(hold: Any) -> None:
    hold(surfaces.Failures)
