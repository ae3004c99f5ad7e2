"""The scanner finds canaries wherever they turn up, and nothing else."""

from __future__ import annotations

import base64
import gzip
import html
import json
import random
import urllib.parse
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from pytest_ssot_isolation.model import known
from pytest_ssot_isolation.model.canary import Canary, Mint
from pytest_ssot_isolation.model.scan import Scanner, Sighting

KINDS = (str, bytes, int, UUID, Decimal, datetime, date, "email", "url", "phone", dict)
mint = Mint(b"the key of this run")
CANARY = mint.mint(7, 3)
TOKEN = CANARY.token
RAW = TOKEN.encode()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.fixture
def scanner() -> Scanner:
    return Scanner(mint)


def learnt(*canaries: Canary) -> Scanner:
    scanner = Scanner(mint)
    for canary in canaries:
        scanner.learn(canary)
    return scanner


def forms(scanner: Scanner, seen: object) -> list[tuple[str, bool]]:
    return [(sighting.encoding, sighting.weak) for sighting in scanner.scan(seen)]


ENCODINGS: dict[str, tuple[object, str]] = {
    "as it is": (TOKEN, "plain"),
    "inside a text": (f"hello {TOKEN}, you", "plain"),
    "in letters that touch it": (f"cq{TOKEN}abc", "plain"),
    "in capitals": (TOKEN.upper(), "upper"),
    "in both cases": (TOKEN.capitalize(), "case"),
    "bytes": (b"\xff" + RAW, "plain"),
    "base64, first alignment": (b64(b"xyz" + RAW + b"!"), "base64"),
    "base64, second alignment": (b64(b"x" + RAW), "base64"),
    "base64, third alignment": (b64(b"xy" + RAW), "base64"),
    "base64 behind a prefix": ("session/" + b64(RAW), "base64"),
    "base64 in lines": (base64.encodebytes(b"x" * 51 + RAW + b"y" * 60).decode(), "base64"),
    "base64url": (base64.urlsafe_b64encode(b"\xff\xfe\xfb" + RAW).decode().rstrip("="), "base64url"),
    "a signed token": ("eyJhbGciOiJIUzI1NiJ9." + b64(json.dumps({"sub": TOKEN}).encode()) + ".sig", "base64"),
    "hex": (RAW.hex(), "hex"),
    "hex in capitals": (RAW.hex().upper(), "hex"),
    "hex of PostgreSQL": ("\\x" + RAW.hex(), "hex"),
    "gzip": (gzip.compress(b"x" * 100 + RAW), "gzip"),
    "zlib": (zlib.compress(RAW, 1), "zlib"),
    "gzip in base64": (b64(gzip.compress(RAW)), "gzip>base64"),
    "capitals in base64": (b64(RAW.upper()), "upper>base64"),
    "base64 three times": (b64(b64(b64(RAW).encode()).encode()), "base64>base64>base64"),
    "percent escapes": ("".join(f"%{octet:02x}" for octet in RAW), "url"),
    "base64 in percent escapes": (urllib.parse.quote(b64(b"???>>>" + RAW), safe=""), "base64"),
    "JSON escapes": ("".join(f"\\u{octet:04x}" for octet in RAW), "json"),
    "JSON in JSON": (json.dumps(json.dumps({"a": f'"{TOKEN}'})), "plain"),
    "HTML references": ("".join(f"&#{octet};" for octet in RAW), "html"),
    "HTML in hex references": ("".join(f"&#x{octet:X};" for octet in RAW), "html"),
    "escaped HTML": (html.escape(f"<b>{TOKEN}</b>"), "plain"),
    "UTF-16": (TOKEN.encode("utf-16"), "utf-16"),
    "UTF-16 big end first": (TOKEN.encode("utf-16-be"), "utf-16"),
}


@pytest.mark.parametrize("case", ENCODINGS)
def test_a_token_is_found_however_it_is_written(case: str, scanner: Scanner) -> None:
    seen, encoding = ENCODINGS[case]
    assert scanner.scan(seen) == (Sighting(7, 3, "str", "", encoding, False),)


def test_four_layers_are_one_too_many(scanner: Scanner) -> None:
    wrapped = RAW
    for _ in range(4):
        wrapped = base64.b64encode(wrapped)
    assert scanner.scan(wrapped) == ()


def test_the_path_names_the_place_and_a_list_has_no_positions(scanner: Scanner) -> None:
    seen = {"status": 200, "body": {"items": [{"body": TOKEN}, {"body": TOKEN}], TOKEN: 1}}
    assert [sighting.path for sighting in scanner.scan(seen)] == ["body.<key>", "body.items.*.body"]


def test_the_kind_is_that_of_the_learnt_canary() -> None:
    email = mint.mint(1, 1, "email")
    assert [sighting.kind for sighting in learnt(email).scan(email.value)] == ["email"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_kind_is_found_as_a_value_and_in_a_text(kind: object) -> None:
    canary = mint.mint(9, 1, kind)
    scanner = learnt(mint.mint(8, 1, kind), canary)
    for seen in (canary.value, {"a": [canary.value]}, f"it is {canary.value}, is it not"):
        found = scanner.scan(seen)
        assert [(s.user, s.slot, s.kind, s.weak) for s in found] == [(9, 1, canary.kind, canary.weak)]


def test_text_int_and_uuid_need_not_be_learnt(scanner: Scanner) -> None:
    for kind in (str, bytes, int, UUID, "email", "url", dict):
        assert scanner.scan(mint.mint(9, 1, kind).value), kind


UUID_CANARY = mint.mint(9, 1, UUID).value
assert isinstance(UUID_CANARY, UUID)


@pytest.mark.parametrize(
    ("seen", "encoding"),
    [
        (UUID_CANARY.hex, "plain"),
        (str(UUID_CANARY).upper(), "plain"),
        (UUID_CANARY.urn, "plain"),
        (UUID_CANARY.int, "plain"),
        (UUID_CANARY.bytes, "binary"),
        (UUID_CANARY.bytes_le, "binary"),
        (b64(UUID_CANARY.bytes), "binary>base64"),
    ],
    ids=str,
)
def test_a_uuid_is_found_in_each_of_its_forms(seen: object, encoding: str, scanner: Scanner) -> None:
    assert scanner.scan(seen) == (Sighting(9, 1, "uuid", "", encoding, False),)


AT = mint.mint(9, 1, datetime).value
assert isinstance(AT, datetime)


@pytest.mark.parametrize(
    ("seen", "encoding", "weak"),
    [
        (AT, "plain", False),
        (AT.replace(tzinfo=None), "plain", False),
        (AT.astimezone(timezone(timedelta(hours=-5))), "plain", False),
        (AT.isoformat(), "plain", False),
        (AT.isoformat(" "), "plain", False),
        (AT.isoformat().replace("+00:00", "Z"), "plain", False),
        (AT.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat(), "plain", False),
        (AT.isoformat(timespec="milliseconds"), "milliseconds", True),
        (AT.replace(microsecond=0), "seconds", True),
        (AT.strftime("%a, %d %b %Y %H:%M:%S GMT"), "seconds", True),
        (AT.timestamp(), "epoch", False),
        (str(AT.timestamp()), "epoch", False),
        (int(AT.timestamp() * 1_000), "epoch milliseconds", True),
        (int(AT.timestamp()), "epoch seconds", True),
    ],
    ids=str,
)
def test_a_time_is_found_in_each_of_its_forms_and_cut_ones_are_weak(
    seen: object, encoding: str, weak: bool
) -> None:
    assert forms(learnt(mint.mint(9, 1, datetime)), seen) == [(encoding, weak)]


def test_a_number_is_found_as_a_float_in_cents_and_with_thousands_grouped() -> None:
    money, count = mint.mint(9, 1, Decimal), mint.mint(9, 2, int, bits=53)
    scanner = learnt(money, count)
    assert isinstance(money.value, Decimal)
    assert isinstance(count.value, int)
    assert forms(scanner, json.loads(f"[{money.value}]")) == [("plain", False)]
    assert forms(scanner, int(money.value * 100)) == [("unscaled", False)]
    assert forms(scanner, f"EUR {money.value:,}") == [("grouped", False)]
    assert forms(scanner, float(count.value)) == [("plain", False)]
    assert forms(scanner, f'{{"a": {count.value}, "b": 1}}') == [("plain", False)]


@pytest.mark.parametrize("form", ["({}) {}-{}", "{}-{}-{}", "{} {} {}", "+1 {}.{}.{}", "+1{}{}{}"])
def test_a_phone_number_is_found_as_people_write_it(form: str) -> None:
    phone = mint.mint(9, 1, "phone")
    digits = str(phone.value)[2:]
    seen = "call " + form.format(digits[:3], digits[3:6], digits[6:])
    assert forms(learnt(phone), seen) == [("plain", True)]


@pytest.mark.parametrize(
    "seen",
    [TOKEN[:8], TOKEN[:12], TOKEN[:17], f"{TOKEN[:9]}… more", f"{TOKEN[:9]}...", f"'{TOKEN[:10]}' is long"],
)
def test_a_token_cut_at_eight_characters_or_more_is_a_weak_hit(seen: str) -> None:
    assert learnt(CANARY).scan(seen) == (Sighting(7, 3, "str", "", "cut", True),)


@pytest.mark.parametrize(
    "seen", [TOKEN[:7], TOKEN[:12] + "z9", mint.mint(8, 3).token[:12], "cqaaaaaaaaaaaaaaaa"]
)
def test_what_only_looks_like_a_cut_token_is_none(seen: str) -> None:
    assert learnt(CANARY).scan(seen) == ()


@pytest.mark.parametrize("length", [8, 12, 17])
def test_the_token_of_a_short_field_is_found(length: int) -> None:
    canary = mint.mint(9, 1, max_length=length)
    assert forms(learnt(canary), f"<{canary.value}>") == [("plain", length < 12)]
    assert forms(learnt(canary), str(canary.value).upper()) == [("upper", length < 12)]


def test_a_narrow_value_that_several_users_share_is_told_of_each() -> None:
    one = mint.mint(1, 1, date)
    two = Canary(2, 1, "date", one.value, True)
    assert [(s.user, s.weak) for s in learnt(one, two).scan(one.value)] == [(1, True), (2, True)]


def test_a_token_split_over_the_chunks_of_a_stream_is_found_once() -> None:
    scanner = learnt(CANARY)
    split = (Sighting(7, 3, "str", "", "chunks", False),)
    assert scanner.scan_stream([TOKEN[:5], TOKEN[5:14], TOKEN[14:] + " and on"]) == split
    assert scanner.scan_stream([RAW[:9], RAW[9:]]) == split
    assert scanner.scan_stream([{"delta": TOKEN[:9]}, {"delta": TOKEN[9:]}]) == (
        Sighting(7, 3, "str", "delta", "chunks", False),
    )
    packed = gzip.compress(RAW)
    assert [s.encoding for s in scanner.scan_stream([packed[:12], packed[12:]])] == ["gzip>chunks"]
    assert [s.encoding for s in scanner.scan_stream(["a", TOKEN, "b"])] == ["plain"]
    assert [s.encoding for s in scanner.scan_stream(["a", TOKEN[:9]])] == ["cut"]


def test_redaction_puts_the_owner_in_place_of_each_canary() -> None:
    uuid, number, day = mint.mint(1, 4, UUID), mint.mint(1, 5, int), mint.mint(0, 6, date)
    text = f"é {TOKEN.upper()}@example.test {uuid.value} {number.value} {day.value} end"
    people = {7: "hal", 1: "bob", 0: "alice"}
    assert learnt(day).redact(text, lambda user, slot: f"{people[user]}#{slot}") == (
        "é <canary hal#3>@example.test <canary bob#4> <canary bob#5> <canary alice#6> end"
    )
    assert learnt().redact("nothing \ud800 here", lambda user, slot: "x") == "nothing \ud800 here"


def test_odd_input_is_scanned_without_an_error() -> None:
    ring: dict[str, object] = {}
    ring["again"] = [ring]
    odd: list[object] = [
        ring, float("nan"), float("inf"), 10**5000, -(10**5000), "\ud800" * 40, Decimal("sNaN"),
        Decimal("1e999999"), datetime.max, datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        object(), {1: 2, (1, 2): 3, None: 4}, "1999-99-99T99:99:99", b"\x1f\x8b\x00", b"\x78\x9c\xff\xff" * 9,
        "9" * 10_000, "%zz%", "\\u12", "&#99999999;", "0" * 41 + ".5", {TOKEN}, range(3), "1,999,999.999",
    ]  # fmt: skip
    scanner = learnt(*(mint.mint(1, slot, kind) for slot, kind in enumerate(KINDS)))
    assert [s.user for s in scanner.scan(odd)] == [7]


def test_a_bomb_is_unpacked_only_so_far(scanner: Scanner) -> None:
    bomb = gzip.compress(b"\0" * (64 << 20) + RAW)
    assert scanner.scan(bomb) == ()


def test_what_is_remembered_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "KEPT", 64)
    scanner = Scanner(mint)
    days = [mint.mint(user, 1, int, bits=53) for user in range(1_000)]
    for day in days:
        scanner.learn(day)
    assert scanner.scan(days[0].value) == ()
    assert scanner.scan(days[-1].value) != ()


def random_text(chance: random.Random) -> object:
    return "cq" + "".join(chance.choices("abcdefghijkmnpqrstuvwxyz23456789", k=16))


def random_int(chance: random.Random) -> object:
    return chance.randrange(1 << 61, 1 << 62)


def random_time(chance: random.Random) -> object:
    return datetime(1980, 1, 1, tzinfo=UTC) + timedelta(microseconds=chance.randrange(10**15 * 9 // 10))


def random_uuid(chance: random.Random) -> object:
    return UUID(int=chance.getrandbits(128) & ~(0xFFFFFF << 56) | 0x4CCC8C << 56)


def random_money(chance: random.Random) -> object:
    return Decimal(chance.randrange(10**14, 10**15)).scaleb(-2)


@pytest.mark.parametrize("draw", [random_text, random_int, random_time, random_uuid, random_money])
def test_of_200_000_random_values_of_like_shape_none_is_a_hit(
    draw: Callable[[random.Random], object],
) -> None:
    strong = (str, int, UUID, Decimal, datetime)
    scanner = learnt(
        *(mint.mint(user, slot, kind) for user in range(100) for slot, kind in enumerate(strong))
    )
    chance = random.Random(1)
    values = [draw(chance) for _ in range(200_000)]
    assert [sighting for sighting in scanner.scan(values) if not sighting.weak] == []


def test_ordinary_ids_and_digests_are_no_hit() -> None:
    scanner = learnt(*(mint.mint(user, slot, kind) for user in range(50) for slot, kind in enumerate(KINDS)))
    chance = random.Random(2)
    values = [
        f(chance.getrandbits(256)) for _ in range(2_000) for f in (hex, str, lambda n: b64(n.to_bytes(32)))
    ]
    assert scanner.scan([values, [uuid4().hex for _ in range(2_000)]]) == ()
