"""Canaries: valid values of their kinds that name their owner, the same each time."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from pytest_ssot_isolation.errors import InvalidSecret, IsolationError
from pytest_ssot_isolation.model.canary import MAX_SLOTS, MAX_USERS, Canary, Mint, Shape

KINDS = (str, bytes, int, UUID, Decimal, datetime, date, "email", "url", "phone", dict)
mint = Mint(b"the key of this run")
each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


@each_kind
def test_the_same_key_user_and_slot_give_the_same_value(kind: object) -> None:
    assert Mint(b"k").mint(5, 2, kind) == Mint(b"k").mint(5, 2, kind)


@each_kind
def test_another_key_gives_another_value(kind: object) -> None:
    assert Mint(b"k").mint(5, 2, kind).value != Mint(b"l").mint(5, 2, kind).value


@each_kind
def test_no_two_secrets_of_an_example_are_alike(kind: object) -> None:
    values = {str(mint.mint(user, slot, kind).value) for user in range(3000, 3010) for slot in range(24)}
    assert len(values) == 240


def test_each_value_is_a_valid_one_of_its_kind() -> None:
    def value(kind: object) -> object:
        return mint.mint(70_000, 9, kind).value

    assert re.fullmatch(r"cq[a-km-np-z2-9]{16}", str(value(str)))
    assert isinstance(value(bytes), bytes)
    number, uuid, money, at, day = value(int), value(UUID), value(Decimal), value(datetime), value(date)
    assert isinstance(number, int)
    assert 1 << 61 <= number < 1 << 62
    assert isinstance(uuid, UUID)
    assert (uuid.version, uuid.variant) == (4, "specified in RFC 4122")
    assert isinstance(money, Decimal)
    assert money.as_tuple().exponent == -2
    assert len(money.as_tuple().digits) == 15
    assert isinstance(at, datetime)
    assert at.tzinfo is UTC
    assert 1980 <= at.year < 2010
    assert type(day) is date
    assert 1930 <= day.year < 2010
    assert re.fullmatch(r"[a-z0-9]{18}@example\.test", str(value("email")))
    assert re.fullmatch(r"https://example\.test/[a-z0-9]{18}", str(value("url")))
    assert re.fullmatch(r"\+15\d{2}[2-9]\d{6}", str(value("phone")))
    assert json.loads(json.dumps(value(dict))) == value(dict)


@pytest.mark.parametrize(("bits", "low", "high"), [(62, 61, 62), (53, 52, 53), (31, 30, 31)])
def test_an_int_has_the_bits_asked_for(bits: int, low: int, high: int) -> None:
    for user in range(200):
        value = mint.mint(user, 1, int, bits=bits).value
        assert isinstance(value, int)
        assert 1 << low <= value < 1 << high


def test_a_decimal_has_the_digits_and_places_asked_for() -> None:
    value = mint.mint(1, 1, Decimal, digits=6, places=3).value
    assert isinstance(value, Decimal)
    assert (len(value.as_tuple().digits), value.as_tuple().exponent) == (6, -3)


def test_a_wrap_stands_around_the_secret_and_counts_for_the_length() -> None:
    canary = mint.mint(1, 1, wrap="Dear {}, hello", max_length=30)
    assert canary.value == f"Dear {canary.token}, hello"
    assert len(str(canary.value)) == 30


@pytest.mark.parametrize("length", [8, 11, 12, 17])
def test_a_short_field_gets_a_token_of_its_length(length: int) -> None:
    values = {str(mint.mint(user, slot, max_length=length).value) for user in range(9) for slot in range(24)}
    assert {len(value) for value in values} == {length}
    assert len(values) == 9 * 24


@pytest.mark.parametrize(
    ("kind", "shape", "weak"),
    [
        (str, {}, False),
        (str, {"max_length": 12}, False),
        (str, {"max_length": 11}, True),
        (int, {"bits": 53}, False),
        (int, {"bits": 31}, True),
        (Decimal, {"digits": 12}, False),
        (Decimal, {"digits": 11}, True),
        (date, {}, True),
        ("phone", {}, True),
        (datetime, {}, False),
    ],
    ids=str,
)
def test_what_is_too_narrow_to_be_told_for_sure_is_weak(
    kind: object, shape: dict[str, int], weak: bool
) -> None:
    assert Shape.of(kind, **shape).weak is weak  # type: ignore[arg-type]
    assert mint.mint(1, 1, kind, **shape).weak is weak  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "shape", "text"),
    [
        (set, {}, "There is no secret of kind <class 'set'>"),
        ([], {}, "There is no secret of kind []"),
        (
            int,
            {"wrap": "{}"},
            "A secret of kind int takes no wrap.\nTo fix this, leave wrap out; int takes bits.",
        ),
        (date, {"max_length": 10}, "date takes no shape at all"),
        (int, {"bits": 32}, "cannot have bits=32: an int has 62, 53 or 31 bits"),
        (str, {"wrap": "no place"}, "cannot have wrap='no place': the secret goes where {} stands"),
        (str, {"max_length": "9"}, "cannot have max_length='9': a whole number is needed"),
        ("email", {"wrap": "{}"}, "without @ it is no email"),
        (str, {"max_length": 12, "wrap": "Dear {}"}, "leaves 7 characters for the secret itself"),
        (
            str,
            {"max_length": 12, "wrap": "Dear {}"},
            "use max_length=13 or more (from 17 on it is told for sure)",
        ),
        ("email", {"max_length": 5}, "leaves 0 characters"),
        (Decimal, {"digits": 3}, "4 digits are the least"),
        (Decimal, {"digits": 5, "places": 6}, "they must be 0 to 5, its digits"),
    ],
    ids=str,
)
def test_a_shape_that_cannot_be_is_told_with_the_remedy(
    kind: object, shape: dict[str, object], text: str
) -> None:
    with pytest.raises(InvalidSecret) as caught:
        mint.mint(1, 1, kind, **shape)  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert "To fix this" in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, IsolationError)


@pytest.mark.parametrize(("user", "slot"), [(MAX_USERS, 0), (0, MAX_SLOTS), (-1, 0), (0, -1)])
def test_a_number_that_does_not_fit_is_refused(user: int, slot: int) -> None:
    with pytest.raises(InvalidSecret, match="tells 1,048,576 users and 4,096 secrets of each apart"):
        mint.mint(user, slot)


def test_the_last_user_and_slot_are_told_like_the_first() -> None:
    for user, slot in ((0, 0), (MAX_USERS - 1, MAX_SLOTS - 1)):
        text, number, uuid = (mint.mint(user, slot, kind).value for kind in (str, int, UUID))
        assert mint.owner_of_token(str(text).encode()) == (user, slot)
        assert isinstance(number, int)
        assert mint.owner_of_int(number) == (user, slot)
        assert isinstance(uuid, UUID)
        assert mint.owner_of_uuid(uuid.int) == (user, slot)


def test_a_token_of_another_run_is_nobodys() -> None:
    other = Mint(b"another run")
    assert mint.owner_of_token(str(other.mint(1, 1).value).encode()) is None


@each_kind
def test_a_canary_knows_itself_and_no_other(kind: object) -> None:
    own, other = mint.mint(1, 1, kind), mint.mint(2, 1, kind)
    assert own.occurs_in({"items": [{"value": own.value}]})
    assert own.occurs_in(f"it is {own.value}, is it not")
    assert not own.occurs_in([other.value, f"it is {other.value}", None])


def test_a_canary_is_a_frozen_value_that_goes_into_sets() -> None:
    canary = mint.mint(1, 1, dict)
    with pytest.raises(dataclasses.FrozenInstanceError):
        canary.user = 2  # type: ignore[misc]
    assert canary in {canary}
    assert not hasattr(canary, "__dict__")
    assert isinstance(canary, Canary)
