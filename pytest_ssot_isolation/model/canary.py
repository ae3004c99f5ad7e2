"""Canary: a secret that names its owner, and knows itself when encoded."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from math import gcd
from typing import Any
from uuid import UUID

from pytest_ssot_isolation.errors import InvalidSecret
from pytest_ssot_isolation.model.quick import quick
from pytest_ssot_isolation.model.value_kinds import ADDED

MAX_USERS = 1 << 20
"""Users one `Mint` tells apart, over all examples of a check."""
MAX_SLOTS = 1 << 12
"""Canaries of one user that one `Mint` tells apart."""

# 32 letters and digits that survive case folding, URLs, JSON, SQL and e-mail; l, o, 0 and 1 are left out
# because people mix them up when they read a report.
ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
TOKEN_LENGTH = 18
TOKEN = re.compile(f"(?=(cq[{ALPHABET}]{{16}}))".encode())
"""Every place where a text token may stand; overlapping, since a token may follow a stray ``cq``."""
CUT_LENGTH = 8
"""Characters of a cut token below which it names nobody."""
UUID_MARK = 0x4CCC8C
"""Version, variant and our mark in one: the middle three octets of a canary UUID."""

_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]
_AS_BASE32 = bytes.maketrans(ALPHABET.encode(), b"0123456789abcdefghijklmnopqrstuv")
_SURE_LENGTH = 12
_SURE_DIGITS = 12

# Neither range holds the present: `now()` and `today()` must not hit by chance.
_FIRST_INSTANT = datetime(1980, 1, 1, tzinfo=UTC)
_INSTANTS = int((datetime(2010, 1, 1, tzinfo=UTC) - _FIRST_INSTANT).total_seconds()) * 1_000_000
_FIRST_DAY = date(1930, 1, 1)
_DAYS = (date(2010, 1, 1) - _FIRST_DAY).days
# 31-bit ints end before the Unix times of the present, for the same reason.
_NARROW_INTS = 1_500_000_000 - (1 << 30)
# Personal numbers (not bound to a place) of the North American plan: valid, and no household answers.
_AREAS = ("500", "521", "522", "525", "526", "527", "528", "529", "533", "544", "566", "577", "588")
_SUBSCRIBERS = 8_000_000

_WRAPS = {"str": "{}", "bytes": "{}", "email": "{}@example.test", "url": "https://example.test/{}"}
_TAKES = {
    **dict.fromkeys(_WRAPS, ("max_length", "wrap")),
    "int": ("bits",),
    "decimal": ("digits", "places"),
    **dict.fromkeys(("uuid", "datetime", "date", "phone", "dict"), ()),
}
_NAMES: dict[object, str] = {
    **{name: name for name in _TAKES},
    **{str: "str", bytes: "bytes", int: "int", UUID: "uuid", Decimal: "decimal", dict: "dict"},
    **{datetime: "datetime", date: "date"},
    "UUID": "uuid",
    "Decimal": "decimal",
}


@quick
@dataclass(frozen=True, slots=True)
class Canary:
    """One secret of one user.

    Attributes:
        user: Serial number of its owner within one check.
        slot: Which of the owner's secrets it is, from 0.
        kind: ``str``, ``bytes``, ``int``, ``uuid``, ``decimal``, ``datetime``, ``date``, ``email``, ``url``,
            ``phone`` or ``dict``, or the name of one that a plugin adds.
        value: A valid value of its kind.
        weak: Too narrow to be told for sure: seeing it needs a second witness.
        token: The text in the value that names its owner; empty for kinds without any.
    """

    user: int
    slot: int
    kind: str
    value: object = field(hash=False)
    weak: bool
    token: str = ""

    def occurs_in(self, seen: object) -> bool:
        """Tell whether this canary stands in what somebody saw, plain or encoded.

        A part of it (a token cut short, a time without its microseconds) does not count.
        """
        from pytest_ssot_isolation.model.scan import sightings_of

        return any(sighting.weak <= self.weak for sighting in sightings_of(self, seen))


@dataclass(frozen=True, slots=True)
class Shape:
    """What a canary must look like to fit the field it is for.

    Attributes:
        kind: Name of the kind, as in `Canary.kind`.
        weak: Values of this shape cannot be told for sure.
        room: Characters there are for the token (text kinds).
        wrap: Text around the token, which stands for ``{}`` (text kinds).
        bits: Width of an int.
        digits: Digits of a decimal, those after the point included.
        places: Digits after the point.
        make: Makes the value around the token, for kinds that a plugin adds.
    """

    kind: str
    weak: bool = False
    room: int = TOKEN_LENGTH
    wrap: str = "{}"
    bits: int = 62
    digits: int = 15
    places: int = 2
    make: Callable[[str], object] | None = None

    @classmethod
    def of(
        cls,
        kind: object = str,
        *,
        max_length: int | None = None,
        wrap: str | None = None,
        bits: int | None = None,
        digits: int | None = None,
        places: int | None = None,
    ) -> Shape:
        """Check a shape and name its kind.

        Args:
            kind: A type (``str``, ``bytes``, ``int``, ``uuid.UUID``, ``decimal.Decimal``,
                ``datetime.datetime``, ``datetime.date``, ``dict``) or its name, or ``"email"``, ``"url"``,
                ``"phone"``, or one that a plugin adds.
            max_length: Most characters (bytes for ``bytes``) of the whole value; no limit by default.
            wrap: Text around the secret, with one ``{}`` where it goes.
            bits: 62 (default), 53 (survives JSON numbers) or 31 (weak).
            digits: Most digits of a decimal in all, 15 by default; fewer than 12 are weak.
            places: Digits after the point, 2 by default.

        Raises:
            InvalidSecret: The kind is unknown or the shape does not fit it.
        """
        added = ADDED.get(kind) if isinstance(kind, str) else None
        try:
            name = added.name if added is not None else _NAMES[kind]
        except (KeyError, TypeError):
            raise InvalidSecret.unknown_kind(kind, (*_TAKES, *ADDED)) from None
        given = {"max_length": max_length, "wrap": wrap, "bits": bits, "digits": digits, "places": places}
        for option, value in given.items():
            if value is None:
                continue
            if option not in _TAKES.get(name, ()):
                raise InvalidSecret.does_not_fit(name, option, _TAKES.get(name, ()))
            if option != "wrap" and (not isinstance(value, int) or isinstance(value, bool)):
                raise InvalidSecret.bad_value(name, option, value, "a whole number is needed")
        if added is not None:
            return cls(name, make=added.make)
        if name in _WRAPS:
            return cls._of_text(name, max_length, _WRAPS[name] if wrap is None else wrap)
        if name == "int" and bits is not None and bits not in (62, 53, 31):
            raise InvalidSecret.bad_value(name, "bits", bits, "an int has 62, 53 or 31 bits")
        if name == "decimal":
            return cls._of_decimal(15 if digits is None else digits, 2 if places is None else places)
        return cls(name, weak=name in ("date", "phone") or bits == 31, bits=bits or 62)

    @classmethod
    def _of_text(cls, name: str, max_length: int | None, wrap: str) -> Shape:
        if not isinstance(wrap, str) or wrap.count("{}") != 1:
            raise InvalidSecret.bad_value(name, "wrap", wrap, "the secret goes where {} stands, exactly once")
        sign = {"email": "@", "url": "://"}.get(name, "")
        if sign not in wrap:
            raise InvalidSecret.bad_value(name, "wrap", wrap, f"without {sign} it is no {name}")
        if max_length is None:
            return cls(name, wrap=wrap)
        around = len(wrap.encode()) - 2 if name == "bytes" else len(wrap) - 2
        room = min(max_length - around, TOKEN_LENGTH)
        if room < CUT_LENGTH:
            raise InvalidSecret.too_short(name, max_length, around, CUT_LENGTH)
        return cls(name, weak=room < _SURE_LENGTH, room=room, wrap=wrap)

    @classmethod
    def _of_decimal(cls, digits: int, places: int) -> Shape:
        if digits < 4:
            raise InvalidSecret.bad_value(
                "decimal", "digits", digits, "4 digits are the least that tell users apart"
            )
        if not 0 <= places <= digits:
            raise InvalidSecret.bad_value(
                "decimal", "places", places, f"they must be 0 to {digits}, its digits"
            )
        # A wider column takes a narrower value; more than 18 digits tell nothing more.
        return cls("decimal", weak=digits < _SURE_DIGITS, digits=max(min(digits, 18), places), places=places)


_Maker = tuple[str, bool, Callable[[int, int], Any], Callable[[str], object] | None]
"""Name of a kind, whether it is weak, what makes the bare secret, and what is put around a text one."""


class Mint:
    """Makes canaries: the same key, user, slot and shape give the same value.

    Args:
        key: Secret of this run, 1 to 64 bytes; tokens of another run are nobody's.
    """

    __slots__ = ("_factor", "_mac", "_makers", "_offset")

    def __init__(self, key: bytes) -> None:
        self._mac = blake2b(key=key, digest_size=7)
        factor = int.from_bytes(self._digest(b"factor")) | 1 << 56
        # Coprime with the size of every range below, so that neighbours never share a value.
        while gcd(factor, 2 * 3 * 5 * 13 * _DAYS * _NARROW_INTS * _INSTANTS) != 1:
            factor += 1
        self._factor = factor
        self._offset = int.from_bytes(self._digest(b"offset"))
        self._makers: dict[object, _Maker] = {}

    def mint(
        self,
        user: int,
        slot: int,
        kind: object = str,
        *,
        max_length: int | None = None,
        wrap: str | None = None,
        bits: int | None = None,
        digits: int | None = None,
        places: int | None = None,
    ) -> Canary:
        """Make the canary of one slot of one user.

        Args:
            user: Serial number of the owner, below `MAX_USERS`.
            slot: Number of the secret among the owner's, below `MAX_SLOTS`.
            kind: What the value is; see `Shape.of` for it and the shape that follows.
            max_length: Most characters of the whole value.
            wrap: Text around the secret, with one ``{}``.
            bits: Width of an int: 62, 53 or 31.
            digits: Most digits of a decimal.
            places: Digits after the point.

        Raises:
            InvalidSecret: The kind is unknown, the shape does not fit it, or a number is out of range.
        """
        given = {"max_length": max_length, "wrap": wrap, "bits": bits, "digits": digits, "places": places}
        shape = tuple((name, value) for name, value in given.items() if value is not None)
        return self.mint_as(user, slot, kind, shape)

    def mint_as(self, user: int, slot: int, kind: object, shape: tuple[tuple[str, Any], ...]) -> Canary:
        """As ``mint``, with the shape as a declaration holds it: pairs of name and value."""
        try:
            made = self._makers.get((kind, shape))
        except TypeError:  # an unhashable kind or wrap, which `Shape.of` names
            made = None
        if made is None:
            wanted = Shape.of(kind, **dict(shape))
            made = (wanted.kind, wanted.weak, self._maker(wanted), _dress(wanted))
            self._makers[kind, shape] = made
        if not (0 <= user < MAX_USERS and 0 <= slot < MAX_SLOTS):
            raise InvalidSecret.out_of_range(user, slot, MAX_USERS, MAX_SLOTS)
        name, weak, make, dress = made
        bare = make(user, slot)
        if dress is None:
            return Canary(user, slot, name, bare, weak)
        return Canary(user, slot, name, bare if dress is _as_it_is else dress(bare), weak, bare)

    def owner_of_token(self, token: bytes) -> tuple[int, int] | None:
        """Give user and slot of a lower-case text token, None where it is not ours."""
        body = token[2:10]
        if self._signature(body) != token[10:].decode():
            return None
        number = int(body.translate(_AS_BASE32), 32)
        return number >> 20, number & 0xFFFFF

    def owner_of_int(self, value: int) -> tuple[int, int] | None:
        """Give user and slot of a 62-bit int, None where it is not ours."""
        if value >> 61 != 1:
            return None
        serial = (value >> 29) & 0xFFFFFFFF
        return (serial >> 12, serial & 0xFFF) if self._int(serial >> 12, serial & 0xFFF) == value else None

    def owner_of_uuid(self, value: int) -> tuple[int, int] | None:
        """Give user and slot of a UUID's 128-bit number, None where it is not ours."""
        if (value >> 56) & 0xFFFFFF != UUID_MARK:
            return None
        user, slot = value >> 104, (value >> 80) & 0xFFFFFF
        return (user, slot) if self._uuid(user, slot).int == value else None

    def _maker(self, shape: Shape) -> Callable[[int, int], Any]:
        spread = self._spread
        if shape.make is not None:
            return self._token
        match shape.kind:
            case "str" | "bytes" | "email" | "url" | "dict":
                if shape.room < TOKEN_LENGTH:
                    return lambda user, slot: self._short_token(user, slot, shape.room)
                return self._token
            case "int" if shape.bits == 31:
                return lambda user, slot: (1 << 30) + spread(user, slot, _NARROW_INTS)
            case "int" if shape.bits == 53:
                return lambda user, slot: (1 << 52) + spread(user, slot, 1 << 52)
            case "int":
                return self._int
            case "uuid":
                return self._uuid
            case "decimal":
                least, places = 10 ** (shape.digits - 1), shape.places
                return lambda user, slot: Decimal(f"{least + spread(user, slot, 9 * least)}e-{places}")
            case "datetime":
                return lambda user, slot: (
                    _FIRST_INSTANT + timedelta(microseconds=spread(user, slot, _INSTANTS))
                )
            case "date":
                return lambda user, slot: _FIRST_DAY + timedelta(days=spread(user, slot, _DAYS))
            case _:
                return self._phone

    def _token(self, user: int, slot: int) -> str:
        body = _PAIRS[user >> 10] + _PAIRS[user & 1023] + _PAIRS[slot >> 10] + _PAIRS[slot & 1023]
        return "cq" + body + self._signature(body.encode())

    def _short_token(self, user: int, slot: int, room: int) -> str:
        # The first characters of a whole token would be the same for all secrets of a user.
        number, text = self._spread(user, slot, 1 << 5 * (room - 2)), ""
        while len(text) < room - 2:
            text += ALPHABET[number & 31]
            number >>= 5
        return "cq" + text

    def _int(self, user: int, slot: int) -> int:
        serial = user << 12 | slot
        return 1 << 61 | serial << 29 | int.from_bytes(self._digest(b"int%d" % serial)) & 0x1FFFFFFF

    def _uuid(self, user: int, slot: int) -> UUID:
        mac = int.from_bytes(self._digest(b"uuid%d.%d" % (user, slot)))
        return UUID(int=user << 104 | slot << 80 | UUID_MARK << 56 | mac)

    def _phone(self, user: int, slot: int) -> str:
        area, subscriber = divmod(self._spread(user, slot, len(_AREAS) * _SUBSCRIBERS), _SUBSCRIBERS)
        return f"+1{_AREAS[area]}{2_000_000 + subscriber}"

    def _spread(self, user: int, slot: int, size: int) -> int:
        """A number below `size` for each secret, far from its neighbours and never one of theirs."""
        return ((user << 12 | slot) * self._factor + self._offset) % size

    def _signature(self, body: bytes) -> str:
        number = int.from_bytes(self._digest(body))
        return (
            _PAIRS[number & 1023]
            + _PAIRS[number >> 10 & 1023]
            + _PAIRS[number >> 20 & 1023]
            + _PAIRS[number >> 30 & 1023]
        )

    def _digest(self, message: bytes) -> bytes:
        mac = self._mac.copy()
        mac.update(message)
        return mac.digest()


def _as_it_is(token: str) -> object:
    """The token itself: nothing is put around it."""
    return token


def _dress(shape: Shape) -> Callable[[str], object] | None:
    """Give what puts a text token into a value of its kind, None where the secret is the value."""
    if shape.make is not None:
        return shape.make
    if shape.kind == "dict":
        return lambda token: {"secret": token}
    if shape.kind not in _WRAPS:
        return None
    before, after = shape.wrap.split("{}")
    if shape.kind == "bytes":
        return lambda token: (before + token + after).encode()
    if not (before or after):
        return _as_it_is
    return lambda token: before + token + after
