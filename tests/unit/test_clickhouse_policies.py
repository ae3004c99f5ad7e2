"""The users file names each protected table in each database of its pool, and nothing else."""

from __future__ import annotations

from xml.etree import ElementTree

from pytest_ssot_isolation.provisioning.clickhouse.policies import (
    SLOTS_AT_FIRST,
    Pool,
    config_file,
    users_file,
)
from pytest_ssot_isolation.provisioning.marking import is_named_for_tests

EVENTS = frozenset({("events", "tenant_id")})


def test_a_pool_gives_each_name_once_until_it_is_given_back() -> None:
    pool = Pool(1, EVENTS)
    first, second = pool.take(), pool.take()

    assert first is not None
    assert first != second
    pool.in_use.discard(first)
    assert pool.take() == first


def test_a_protected_pool_ends_where_its_policies_end() -> None:
    pool = Pool(1, EVENTS)

    assert sorted(filter(None, (pool.take() for _ in range(SLOTS_AT_FIRST)))) == pool.names()
    assert pool.take() is None


def test_a_pool_without_protections_never_ends() -> None:
    pool = Pool(0, frozenset())

    assert len({pool.take() for _ in range(SLOTS_AT_FIRST * 2)} - {None}) == SLOTS_AT_FIRST * 2


def test_every_name_says_that_it_is_for_tests() -> None:
    assert all(is_named_for_tests(name) for name in Pool(7, EVENTS).names())


def test_the_users_file_holds_a_policy_for_each_table_of_each_name() -> None:
    plain, events = Pool(0, frozenset()), Pool(1, EVENTS, size=2)
    both = Pool(2, EVENTS | {("runs", "owner")}, size=1)

    root = ElementTree.fromstring(users_file([plain, events, both]))

    found = {
        (database.get("name"), table.get("name"))
        for database in root.iter("database")
        for table in database.iter("table")
    }
    assert found == {
        ("ssot_test_01_000", "events"),
        ("ssot_test_01_001", "events"),
        ("ssot_test_02_000", "events"),
        ("ssot_test_02_000", "runs"),
    }


def test_names_with_marks_of_xml_stay_what_they_are() -> None:
    pool = Pool(1, frozenset({('a"<b>&', "c<&>d")}), size=1)

    table = next(ElementTree.fromstring(users_file([pool])).iter("table"))

    assert table.get("name") == 'a"<b>&'
    assert "`c<&>d`" in (table.findtext("filter") or "")
    assert ElementTree.fromstring(config_file("/tmp/a&b")).findtext("users_config") == "/tmp/a&b"
