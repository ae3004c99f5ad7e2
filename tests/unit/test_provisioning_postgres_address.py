"""DSNs of PostgreSQL: what they say, what they become, and that no password is shown."""

from __future__ import annotations

import pytest

from pytest_ssot_isolation.errors import DatabaseUnusable
from pytest_ssot_isolation.provisioning.postgres.address import Address
from pytest_ssot_isolation.provisioning.secret_text import hide_passwords


@pytest.mark.parametrize(
    ("dsn", "parts"),
    [
        ("postgresql://u:p@h:1/d", ("h", 1, "u", "p", "d")),
        ("postgres://u@h/d", ("h", 5432, "u", "", "d")),
        ("postgresql://u%40x:p%3A%2F@h/d%20e", ("h", 5432, "u@x", "p:/", "d e")),
        ("postgresql:///d?host=/run/pg&user=u&password=p", ("/run/pg", 5432, "u", "p", "d")),
        ("postgresql://u@[::1]:7/d", ("::1", 7, "u", "", "d")),
        ("postgresql://u@h", ("h", 5432, "u", "", "u")),
    ],
)
def test_a_dsn_is_taken_apart(dsn: str, parts: tuple[str, int, str, str, str]) -> None:
    place = Address.parse(dsn)

    assert (place.host, place.port, place.user, place.password, place.database) == parts
    assert Address.parse(place.url()) == place


def test_options_stay_with_the_address() -> None:
    place = Address.parse("postgresql://u:p@h/d?sslmode=require").at("other").as_role("r", "s")

    assert place.url() == "postgresql://r:s@h:5432/other?sslmode=require"
    assert place.url("asyncpg") == "postgresql+asyncpg://r:s@h:5432/other?sslmode=require"


def test_settings_travel_in_the_dsn_with_blanks_and_backslashes_kept() -> None:
    place = Address.parse("postgresql://u@h/d").with_settings({"app.user_id": "a b\\c"})

    assert dict(place.options) == {"options": "-c app.user_id=a\\ b\\\\c"}
    assert Address.parse(place.url()) == place


@pytest.mark.parametrize("dsn", ["mysql://u:planted@h/d", "postgresql://u:planted@h:notaport/d", "planted"])
def test_what_is_no_dsn_is_refused_without_its_password(dsn: str) -> None:
    with pytest.raises(
        DatabaseUnusable, match=r"look like postgresql://user:password@host:5432/app_test"
    ) as caught:
        Address.parse(dsn)

    assert ":planted" not in str(caught.value)


def test_several_hosts_are_refused() -> None:
    with pytest.raises(DatabaseUnusable, match="no DSN of one PostgreSQL server"):
        Address.parse("postgresql://u:planted@a,b/d")


def test_an_address_shows_no_password() -> None:
    place = Address.parse("postgresql://u:planted@h/d?password=planted")

    assert "planted" not in f"{place} {place!r}"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:planted@h/d",
        "ALTER ROLE x PASSWORD 'planted'",
        "ALTER ROLE x PASSWORD 'planted one'",
        "host=h password=planted user=u",
        "postgresql://u:pl@nted@h/d and so on",
    ],
)
def test_passwords_are_starred_out_of_any_text(text: str) -> None:
    assert "planted" not in hide_passwords(text)
    assert "nted@" not in hide_passwords(text)


def test_text_about_passwords_stays_readable() -> None:
    assert hide_passwords("password authentication failed") == "password authentication failed"
