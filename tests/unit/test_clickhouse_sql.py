"""A script is cut into statements where ClickHouse would cut it, and nothing escapes its quotes."""

from __future__ import annotations

import pytest

from pytest_ssot_isolation.provisioning.clickhouse.sql import (
    belongs_to_tenant,
    identifier,
    literal,
    statements,
)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'", ["SELECT ';'"]),
        (r"SELECT 'it\'s; one'", [r"SELECT 'it\'s; one'"]),
        ("SELECT 'it''s; one'", ["SELECT 'it''s; one'"]),
        ('SELECT 1 AS "a;b"; SELECT `c;d`', ['SELECT 1 AS "a;b"', "SELECT `c;d`"]),
        ("SELECT $$a;b$$; SELECT $x$c;$$;d$x$", ["SELECT $$a;b$$", "SELECT $x$c;$$;d$x$"]),
        ("-- one; two\nSELECT 1 -- three;\n", ["SELECT 1"]),
        ("SELECT 1 /* a;\nb */ + 1", ["SELECT 1   + 1"]),
        ("#! note;\nSELECT 1", ["SELECT 1"]),
        (" ;; \n-- nothing\n", []),
        ("SELECT '-- not a comment; at all'", ["SELECT '-- not a comment; at all'"]),
    ],
)
def test_a_script_is_cut_at_the_semicolons_that_end_a_statement(script: str, expected: list[str]) -> None:
    assert list(statements(script)) == expected


def test_names_and_texts_stay_inside_their_quotes() -> None:
    assert identifier("a`; DROP") == r"`a\`; DROP`"
    assert identifier("a\\") == r"`a\\`"
    assert literal("it's") == r"'it\'s'"
    assert literal("\\'") == r"'\\\''"


def test_a_row_policy_shows_nothing_to_a_query_that_names_no_tenant() -> None:
    condition = belongs_to_tenant("tenant_id")

    assert condition.startswith("toString(`tenant_id`) = getSetting('log_comment')")
    assert condition.endswith("AND getSetting('log_comment') != ''")
