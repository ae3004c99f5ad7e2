"""What a scanner remembers: canaries that do not name their owner themselves, and tokens that may be cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import TypeVar

from pytest_ssot_isolation.model.canary import CUT_LENGTH, TOKEN_LENGTH, Canary
from pytest_ssot_isolation.model.quick import quick

Key = TypeVar("Key")
Kept = TypeVar("Kept")

# Users and secrets of long checks pass by in their hundreds of thousands; only the latest can still turn up
# in what an application keeps, and memory must not grow with the examples.
KEPT = 1 << 13
_OWNERS_KEPT = 4
_UNTOLD = "str"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# What a time of a canary is as a number: from, below, microseconds in a unit.
_EPOCHS = ((10**8, 10**10, 10**6), (10**11, 10**13, 10**3), (10**14, 10**16, 1))
_NUMBER = re.compile(rb"\d+(?:\.\d+)?")
_GROUPED = re.compile(rb"(?<![\d,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])")
_PHONE = re.compile(rb"\d{3}[) .-]{0,3}\d{3}[ .-]{0,2}\d{4}")
_PHONE_MARKS = (b"9999999", b"999-9999", b"999 9999", b"999.9999")
_ISO = re.compile(
    rb"(?:19\d\d|200\d|2010)-\d\d-\d\d"
    rb"(?:[Tt ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:[Zz]| ?[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_MAIL_DATE = re.compile(rb"\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d(?: (?:GMT|UTC|[+-]\d{4}))?")
_MARKS = bytes(
    ord("9") if chr(octet).isdecimal() and octet < 128 else octet if octet in b"-:.," else ord(" ")
    for octet in range(256)
)
_NOT_DIGIT = bytes(sorted(set(range(256)) - set(b"0123456789")))


@quick
@dataclass(frozen=True, slots=True)
class Hit:
    """Whose secret a value is.

    Attributes:
        user: Serial number of the owner.
        slot: Number of the secret among the owner's.
        kind: Name of the canary's kind.
        weak: Not sure enough to stand alone.
        form: How the value was written, empty for the plain way.
    """

    user: int
    slot: int
    kind: str
    weak: bool = False
    form: str = ""


Place = tuple[int, int, Hit]
"""Where in some bytes a hit stands: begin, end, hit."""


class Known:
    """The learnt canaries of a check, the latest `KEPT` of each sort."""

    __slots__ = (
        "_days",
        "_heads",
        "_instants",
        "_kinds",
        "_least",
        "_lengths",
        "_numbers",
        "_phones",
        "_recent",
        "_short",
        "_tokens",
    )

    def __init__(self) -> None:
        self._numbers: dict[int | Decimal, tuple[Hit, ...]] = {}
        self._least = 9  # digits of a time in seconds since 1970
        self._instants: dict[int, tuple[Hit, ...]] = {}
        self._days: dict[date, tuple[Hit, ...]] = {}
        self._phones: dict[bytes, tuple[Hit, ...]] = {}
        self._short: dict[bytes, tuple[Hit, ...]] = {}
        self._lengths: tuple[int, ...] = ()
        self._tokens: dict[str, Hit] = {}
        self._recent: list[tuple[str, Hit]] = []
        self._heads: dict[bytes, tuple[tuple[bytes, Hit], ...]] = {}
        self._kinds: dict[tuple[int, int], str] = {}

    def learn(self, canary: Canary) -> None:
        """Remember one canary."""
        hit = Hit(canary.user, canary.slot, canary.kind, canary.weak)
        value = canary.value
        if canary.token:
            self._learn_token(canary.token, hit)
        elif isinstance(value, datetime):
            self._learn_instant(value, hit)
        elif isinstance(value, date):
            _add(self._days, value, hit)
        elif isinstance(value, Decimal):
            self._learn_number(value, hit)
            places = value.as_tuple().exponent
            if isinstance(places, int) and places < 0:
                self._learn_number(int(value.scaleb(-places)), _form(hit, "unscaled"))
        elif isinstance(value, int):
            if value < 1 << 61:
                self._learn_number(value, hit)
        elif canary.kind == "phone" and isinstance(value, str):
            _add(self._phones, value[-10:].encode(), hit)

    def kind_of(self, user: int, slot: int) -> str:
        """Name the kind of a secret whose token was seen; ``str`` for one never learnt."""
        return self._kinds.get((user, slot), _UNTOLD)

    def learnt(self, token: str) -> Hit | None:
        """The hit of a whole token that was learnt lately; None where its signature must tell."""
        return self._tokens.get(token)

    def tokens(self, low: bytes, begin: int, run: bytes) -> Iterator[Place]:
        """Find the short or cut token in a run of letters that begins like one.

        Args:
            low: The text, in lower case.
            begin: Where the run begins.
            run: At most `TOKEN_LENGTH` characters of it.
        """
        for length in self._lengths:
            for hit in self._short.get(run[:length], ()) if len(run) >= length else ():
                yield begin, begin + length, hit
                return
        end = begin + len(run)
        if len(run) < TOKEN_LENGTH and not low[end : end + 1].isalnum():
            self._learn_heads()
            for token, hit in self._heads.get(run[:CUT_LENGTH], ()):
                if token.startswith(run) and token != run:
                    yield begin, end, Hit(hit.user, hit.slot, hit.kind, True, "cut")
                    return

    @property
    def reads_text(self) -> bool:
        """Whether `places` has anything to look for."""
        return bool(self._numbers or self._instants or self._days or self._phones)

    def at_number(self, value: int | Decimal) -> tuple[Hit, ...]:
        """Whose secret a number is: nobody's, one's, or, for narrow kinds, that of several."""
        found = self._numbers.get(value, ())
        if found or not self._instants:
            return found
        for low, high, unit in _EPOCHS:
            if low <= value < high:
                micros = value * unit
                return tuple(
                    Hit(hit.user, hit.slot, hit.kind, hit.weak, f"epoch {hit.form}".strip())
                    for hit in (self._instants.get(int(micros), ()) if micros == int(micros) else ())
                )
        return ()

    def at_float(self, value: float) -> tuple[Hit, ...]:
        """Whose secret a float is; infinities and NaN are nobody's."""
        if not (self._numbers or self._instants) or not -1e18 < value < 1e18:
            return ()
        return self.at_number(Decimal(repr(value)))

    def at_instant(self, value: datetime) -> tuple[Hit, ...]:
        """Whose secret a time is; one without a zone counts as UTC."""
        if not self._instants and not self._days:
            return ()
        try:
            aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            found = self._instants.get((aware - _EPOCH) // _MICROSECOND, ())
        except (OverflowError, ValueError, TypeError):
            return ()
        if not found and not (value.hour or value.minute or value.second or value.microsecond):
            return self._days.get(value.date(), ())
        return found

    def at_day(self, value: date) -> tuple[Hit, ...]:
        """Whose secret a day is."""
        return self._days.get(value, ())

    def places(self, raw: bytes) -> Iterator[Place]:
        """Find learnt numbers, times, days and phone numbers in a text."""
        # Patterns are slow where they must be tried at each character; fixed marks are found fast.
        marks = raw.translate(_MARKS)
        if b"999" not in marks:
            return
        if self._numbers or self._instants:
            yield from self._number_places(raw, marks)
        if self._instants or self._days:
            for begin in _found(marks, b"9999-99-99"):
                if match := _ISO.match(raw, begin):
                    yield from _placed(match, self._at_iso(match[0].decode()))
        if self._instants and b" 9999 99:99:99" in marks:
            for match in _MAIL_DATE.finditer(raw):
                yield from _placed(match, self._at_mail_date(match[0].decode()))
        if self._phones and any(mark in marks for mark in _PHONE_MARKS):
            for match in _PHONE.finditer(raw):
                yield from _placed(match, self._phones.get(match[0].translate(None, _NOT_DIGIT), ()))
            # A country code in front, without a sign between, hides the ten digits from the pattern.
            for match in re.finditer(rb"(?<!\d)1(\d{10})(?!\d)", raw):
                yield from _placed(match, self._phones.get(match[1], ()))

    def _number_places(self, raw: bytes, marks: bytes) -> Iterator[Place]:
        done = 0
        for begin in _found(marks, b"9" * self._least):
            match = _NUMBER.match(raw, begin) if begin >= done else None
            if match:
                done = match.end()
                if len(match[0]) <= 40:
                    key = Decimal(match[0].decode()) if b"." in match[0] else int(match[0])
                    yield from _placed(match, self.at_number(key))
        if b",999" in marks:
            for match in _GROUPED.finditer(raw):
                if len(match[0]) <= 40:
                    key = Decimal(match[0].replace(b",", b"").decode())
                    yield from _placed(match, tuple(_form(h, "grouped") for h in self._numbers.get(key, ())))

    def _at_iso(self, text: str) -> tuple[Hit, ...]:
        try:
            if len(text) == 10:
                return self._days.get(date.fromisoformat(text), ())
            return self.at_instant(datetime.fromisoformat(text.upper().replace(",", ".").replace(" +", "+")))
        except ValueError:
            return ()

    def _at_mail_date(self, text: str) -> tuple[Hit, ...]:
        try:
            return self.at_instant(parsedate_to_datetime(text))
        except (ValueError, TypeError):
            return ()

    def _learn_number(self, value: int | Decimal, hit: Hit) -> None:
        _add(self._numbers, value, hit)
        self._least = min(self._least, len(str(int(value))))

    def _learn_token(self, token: str, hit: Hit) -> None:
        if len(token) < TOKEN_LENGTH:
            _add(self._short, token.encode(), hit)
            if len(token) not in self._lengths:
                self._lengths = tuple(sorted((*self._lengths, len(token)), reverse=True))
        else:
            if hit.kind != _UNTOLD:
                _trim(self._kinds)
                self._kinds[hit.user, hit.slot] = hit.kind
            _trim(self._tokens)
            self._tokens[token] = hit
        self._recent.append((token, hit))
        if len(self._recent) >= KEPT:
            self._learn_heads()

    def _learn_heads(self) -> None:
        """Sort the latest tokens by how they begin: only where something looks like a cut one is that asked."""
        for token, hit in self._recent:
            _trim(self._heads)
            known = token.encode()
            head = known[:CUT_LENGTH]
            # All secrets of a user share a head; which of them was cut there cannot be told, so a few will do.
            self._heads[head] = (*self._heads.get(head, ())[-15:], (known, hit))
        self._recent.clear()

    def _learn_instant(self, value: datetime, hit: Hit) -> None:
        micros = (value - _EPOCH) // _MICROSECOND
        seconds = Hit(hit.user, hit.slot, hit.kind, True, "seconds")
        millis = Hit(hit.user, hit.slot, hit.kind, True, "milliseconds")
        _add(self._instants, micros, hit)
        _add(self._instants, micros // 1000 * 1000, millis)
        _add(self._instants, micros // 1_000_000 * 1_000_000, seconds)


def _add(table: dict[Key, tuple[Hit, ...]], key: Key, hit: Hit) -> None:
    _trim(table)
    before = table.get(key)
    if before is None:
        table[key] = (hit,)
    elif hit not in before:
        # A sure owner outweighs those whose cut value happens to be the same.
        table[key] = (*before, hit)[-_OWNERS_KEPT:] if hit.weak >= before[0].weak else (hit,)


def _trim(table: dict[Key, Kept]) -> None:
    # In bulk: deleting the first key again and again walks over all the holes before it.
    if len(table) >= KEPT:
        for key in list(islice(table, KEPT // 4)):
            del table[key]


def _found(text: bytes, mark: bytes) -> Iterator[int]:
    begin = text.find(mark)
    while begin >= 0:
        yield begin
        begin = text.find(mark, begin + len(mark))


def _form(hit: Hit, form: str) -> Hit:
    return Hit(hit.user, hit.slot, hit.kind, hit.weak, form)


def _placed(match: re.Match[bytes], hits: tuple[Hit, ...]) -> Iterator[Place]:
    return ((match.start(), match.end(), hit) for hit in hits)
