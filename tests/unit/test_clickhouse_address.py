"""A DSN is read, refused or passed on without its password ever being shown."""

from __future__ import annotations

import pytest

from pytest_ssot_isolation.errors import DatabaseUnusable, ServerFailed
from pytest_ssot_isolation.provisioning.clickhouse.address import Address
from pytest_ssot_isolation.provisioning.marking import is_named_for_tests, refusal

PASSWORD = "pa ss/w@rd%"
DSN = "clickhouse://al%20ice:pa%20ss%2Fw%40rd%25@db.example:9123/app_test?compress=lz4"


def test_a_dsn_survives_being_taken_apart_and_put_together() -> None:
    address = Address.parse(DSN)

    assert (address.user, address.password, address.database) == ("al ice", PASSWORD, "app_test")
    assert address.dsn == DSN
    assert Address.parse(address.at("other_test").dsn).database == "other_test"


def test_the_driver_reads_the_dsn_as_we_do() -> None:
    from clickhouse_connect.driver import _parse_connection_params

    host, user, password, port, database, interface = _parse_connection_params(
        None, None, "", None, None, None, False, Address.parse(DSN).dsn, {}
    )

    assert (host, user, password, port) == ("db.example", "al ice", PASSWORD, 9123)
    assert (database, interface) == ("app_test", "http")


def test_what_is_left_out_is_clickhouses_own_default() -> None:
    address = Address.parse("clickhouse://db.example")

    assert (address.port, address.user, address.database) == (8123, "default", "default")
    assert Address.parse("https://db.example/x").port == 8443


@pytest.mark.parametrize(
    "dsn", ["postgresql://u:sesame@h/test", "clickhouse:///test", "http://u:sesame@h:x/t"]
)
def test_a_dsn_of_something_else_is_refused_without_a_word_of_it(dsn: str) -> None:
    with pytest.raises(DatabaseUnusable, match=r"has to look like clickhouse://user:password@host") as caught:
        Address.parse(dsn)

    assert "sesame" not in str(caught.value)


def test_tls_on_a_port_that_the_driver_cannot_know_is_refused() -> None:
    with pytest.raises(DatabaseUnusable, match=r"TLS on port 9000.*cannot be told in a DSN"):
        Address.parse("https://db.example:9000/app_test")


def test_the_password_is_in_no_text_of_an_address() -> None:
    address = Address.parse(DSN)

    for text in (str(address), repr(address), f"{address}", address.hide(f"told {PASSWORD} and {DSN}")):
        assert PASSWORD not in text
        assert "pa%20ss" not in text


def test_a_closed_port_is_told_with_the_remedy() -> None:
    address = Address.parse("clickhouse://u:sesame@127.0.0.1:1/app_test")

    with pytest.raises(
        ServerFailed, match=r"Nothing answers as ClickHouse at u@127.0.0.1:1/app_test"
    ) as caught:
        address.ask("SELECT 1", 2.0)

    assert "the port is that of HTTP (8123)" in str(caught.value)
    assert "sesame" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("name", ["test", "app_test", "test-app", "a_TEST_b"])
def test_test_as_a_word_marks_a_database(name: str) -> None:
    assert is_named_for_tests(name)


@pytest.mark.parametrize("name", ["", "app", "latest", "contest_db", "tests", "attest-app"])
def test_test_within_a_word_does_not(name: str) -> None:
    assert not is_named_for_tests(name)


def test_the_refusal_says_how_to_mark_a_database() -> None:
    text = str(refusal("clickhouse", "u@h:8123/app", "app"))

    assert "'app' at u@h:8123/app is not marked for tests" in text
    assert "create a table ssot_isolation_may_write" in text
    assert "--ssot-clickhouse=DSN" in text
