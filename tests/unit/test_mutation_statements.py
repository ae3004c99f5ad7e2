"""Conditions and settings are found in SQL of each dialect, and weakened without touching anything else."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_ssot_isolation.mutation import statements
from pytest_ssot_isolation.mutation.caches import form, without
from pytest_ssot_isolation.mutation.who import parts_of

IDS = (("tenant", "acme"), ("user", "alice"))


def conditions(sql: str, dialect: str, arguments: Any = ()) -> dict[str, list[Any]]:
    """The sound conditions of a statement, and the values that each compares with."""
    read = statements.read(sql, dialect)
    assert read is not None
    return {
        sql[each.start : each.end]: [statements.value_of(one, arguments) for one in each.references]
        for each in read.conjuncts
        if statements.is_sound(sql, dialect, each.start, each.end)
    }


@pytest.mark.parametrize(
    ("dialect", "sql", "arguments", "expected"),
    [
        ("postgres", "SELECT 1 FROM n WHERE owner = $2 AND id = $1", (7, "al"), {"owner = $2": ["al"], "id = $1": [7]}),
        ("postgres", "DELETE FROM n WHERE a = %s AND b = %s", ("x", "al"), {"a = %s": ["x"], "b = %s": ["al"]}),
        ("postgres", "SELECT 1 FROM n WHERE o = %(o)s::TEXT", {"o": "al"}, {"o = %(o)s::TEXT": ["al"]}),
        ("sqlite", "SELECT 1 FROM n WHERE (a=1 AND (c=:u))", {"u": "al"}, {"a=1": ["1"], "c=:u": ["al"]}),
        ("sqlite", "SELECT 1 FROM n WHERE o = ? OR public", ("al",), {"o = ? OR public": ["al"]}),
        ("sqlite", "SELECT 1 FROM n WHERE d BETWEEN 1 AND 2 AND o = 'al'", (),
         {"d BETWEEN 1 AND 2": ["1", "2"], "o = 'al'": ["al"]}),
        ("clickhouse", "SELECT 1 FROM e PREWHERE t = {t:String} SETTINGS x=1", {"t": "al"}, {"t = {t:String}": ["al"]}),
        ("postgres", "SELECT 1 FROM n JOIN u ON u.id = n.o AND u.t = $1 ORDER BY 1", ("al",),
         {"u.id = n.o": [], "u.t = $1": ["al"]}),
    ],
)  # fmt: skip
def test_the_conditions_of_a_statement(
    dialect: str, sql: str, arguments: Any, expected: dict[str, list[Any]]
) -> None:
    assert conditions(sql, dialect, arguments) == expected


def test_a_question_within_a_condition_has_conditions_of_its_own() -> None:
    sql = "SELECT 1 FROM n WHERE id IN (SELECT id FROM shares WHERE who = $1 AND ok)"

    found = conditions(sql, "postgres", ("al",))

    assert found["who = $1"] == ["al"]
    assert found["id IN (SELECT id FROM shares WHERE who = $1 AND ok)"] == []


def test_a_condition_is_kept_in_the_text_so_that_its_parameter_keeps_its_type() -> None:
    sql = "SELECT 1 FROM n WHERE owner = $1 AND id = $2"
    start = sql.index("owner")

    weakened = statements.weaken(sql, start, start + len("owner = $1"))

    assert weakened == "SELECT 1 FROM n WHERE ((owner = $1) OR 1=1) AND id = $2"


@pytest.mark.parametrize(
    ("sql", "weakened"),
    [
        ("SET LOCAL app.user_id = 'al'", "SET SESSION app.user_id = 'al'"),
        ("SELECT set_config('app.u', $1, true)", "SELECT set_config('app.u', $1, (true AND FALSE))"),
        ("SELECT set_config('app.u', $1, $2::BOOLEAN)", "SELECT set_config('app.u', $1, ($2::BOOLEAN AND FALSE))"),
    ],
)  # fmt: skip
def test_a_local_setting_becomes_the_sessions(sql: str, weakened: str) -> None:
    read = statements.read(sql, "postgres")
    assert read is not None

    assert [statements.make_session_wide(sql, each) for each in read.settings] == [weakened]


def test_time_outs_say_nothing_of_who_acts() -> None:
    read = statements.read("SET LOCAL lock_timeout = 1", "postgres")
    assert read is not None

    (setting,) = read.settings
    assert not statements.guards_a_user(statements.value_of(setting.name, ()))
    assert statements.guards_a_user("app.user_id")
    assert statements.guards_a_user("ROLE")


@pytest.mark.parametrize(
    ("key", "part", "shown", "left"),
    [
        ("notes:alice:7", "user", "notes:{user}…", "notes:*:7"),
        (("acme", "alice", "x"), "tenant", "({tenant}, …, …)", ("*", "alice", "x")),
        ((("acme", "alice"), "x"), "user", "((…, {user}), …)", (("acme", "*"), "x")),
        (b"alice/x", "user", "{user}…", b"*/x"),
        ("notes:7", "user", None, "notes:7"),
    ],
)
def test_a_part_of_a_cache_key(key: Any, part: str, shown: str | None, left: Any) -> None:
    assert form(key, part, IDS) == shown
    assert without(key, part, IDS) == left


def test_values_that_are_the_acting_users_own() -> None:
    assert parts_of("Alice ", IDS) == {"user"}
    assert parts_of(["acme", "x"], IDS) == {"tenant"}
    assert parts_of(7, (("user", "7"),)) == {"user"}
    assert parts_of(True, (("user", "True"),)) == frozenset()
    assert parts_of("alice2", IDS) == frozenset()
