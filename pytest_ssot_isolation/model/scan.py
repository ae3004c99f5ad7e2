"""Finds canaries in what somebody saw, plain or encoded, and says whose they are and where they stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol, TypeAlias
from uuid import UUID

from pytest_ssot_isolation.model.canary import ALPHABET, CUT_LENGTH, TOKEN_LENGTH, UUID_MARK, Canary
from pytest_ssot_isolation.model.known import Hit, Known, Place
from pytest_ssot_isolation.model.payload import as_seen, leaves
from pytest_ssot_isolation.model.quick import quick
from pytest_ssot_isolation.model.unwrap import is_quiet, layers, runs

DEPTH = 3
"""Layers of encoding that are taken off."""
_VIEWS = 500
"""Decodings that are tried for one value, whatever it is made of."""

_RUN = re.compile(f"cq[{ALPHABET}]{{{CUT_LENGTH - 2},{TOKEN_LENGTH - 2}}}".encode())
_BIG_INT = re.compile(rb"(?<!\d)[234]\d{18}(?!\d)")
_UUID = re.compile(rb"[0-9a-f]{8}-?[0-9a-f]{4}-?4ccc-?8c[0-9a-f]{2}-?[0-9a-f]{12}")
_MARK = UUID_MARK.to_bytes(3)
_MARK_LITTLE = b"\xcc\x4c\x8c"

_LEAST = 4
"""Characters below which no text can tell anything."""

_Parent: TypeAlias = "tuple[_Parent, object] | None"


class Recogniser(Protocol):
    """Tells the owner of a value that carries its owner in itself; a `Mint` does."""

    def owner_of_token(self, token: bytes) -> tuple[int, int] | None:
        """User and slot of a lower-case text token."""

    def owner_of_int(self, value: int) -> tuple[int, int] | None:
        """User and slot of a 62-bit int."""

    def owner_of_uuid(self, value: int) -> tuple[int, int] | None:
        """User and slot of a UUID's number."""


@quick
@dataclass(frozen=True, slots=True)
class Sighting:
    """One canary at one place.

    Attributes:
        user: Serial number of the owner.
        slot: Number of the secret among the owner's.
        kind: Name of the canary's kind; ``str`` for a text token that was never learnt.
        path: Where in the seen form, such as ``items.*.body``; empty for the answer itself.
        encoding: How it was written: ``plain``, ``upper``, ``base64``, ``gzip>base64`` (the last was
            applied last), ...
        weak: Not sure enough to stand alone: narrow, or cut. The value of a narrow kind may belong to
            several users; each has a sighting.
    """

    user: int
    slot: int
    kind: str
    path: str
    encoding: str
    weak: bool


class Scanner:
    """Finds the canaries of one mint.

    Args:
        mint: Decodes and verifies tokens, 62-bit ints and UUIDs; they need not be learnt.
    """

    __slots__ = ("_known", "_recogniser")

    def __init__(self, mint: Recogniser) -> None:
        self._recogniser = mint
        self._known = Known()

    def learn(self, canary: Canary) -> None:
        """Remember a canary, so that it is found whatever its kind, and when it is cut short."""
        self._known.learn(canary)

    def scan(self, seen: object) -> tuple[Sighting, ...]:
        """Find all canaries in the seen form of an answer (other objects are put into it first).

        Never raises, whatever the answer holds. An object that stands at two places is scanned once.
        """
        if seen is None or seen is True or seen is False:
            return ()  # What half of all calls answer.
        found: dict[Sighting, None] = {}
        if type(seen) is str:
            if len(seen) >= _LEAST:
                self._text(seen, None, found)
            return tuple(found)
        todo: list[tuple[object, _Parent]] = [(seen, None)]
        visited: set[int] = set()
        for value, parent in todo:
            if isinstance(value, dict):
                members: Iterable[tuple[object, object]] = value.items()
                for key in value:
                    if type(key) is not str or len(key) >= CUT_LENGTH:
                        self._leaf(key, (parent, "<key>"), found)
            elif isinstance(value, (list, tuple)):
                members = (("*", inner) for inner in value)
            else:
                other = self._leaf(value, parent, found)
                if other is not None:
                    todo.append((other, parent))
                continue
            if id(value) in visited:
                continue
            visited.add(id(value))
            for key, inner in members:
                kind = type(inner)
                if kind is str:
                    if len(inner) >= _LEAST:  # type: ignore[arg-type]
                        self._text(inner, (parent, key), found)  # type: ignore[arg-type]
                elif kind is dict or kind is list or kind is tuple:
                    todo.append((inner, (parent, key)))
                elif inner is not None and kind is not bool:
                    other = self._leaf(inner, (parent, key), found)
                    if other is not None:
                        todo.append((other, (parent, key)))
        return tuple(found)

    def scan_stream(self, chunks: Iterable[object]) -> tuple[Sighting, ...]:
        """Find all canaries in the chunks of one stream, those split over several chunks included.

        Args:
            chunks: Texts or bytes in the order in which they came, or messages whose texts at the same
                path belong together (``{"delta": "cq"}``, ``{"delta": "aa..."}``).
        """
        pieces = [chunk if isinstance(chunk, (str, bytes)) else as_seen(chunk) for chunk in chunks]
        parts: dict[str, list[bytes]] = {}
        for piece in pieces:
            for path, leaf in leaves(piece):
                if isinstance(leaf, (str, bytes)):
                    parts.setdefault(path, []).append(leaf if isinstance(leaf, bytes) else _encoded(leaf))
        joined: dict[tuple[str, int, int], Sighting] = {}
        for path, texts in parts.items():
            for hit, encoding in self._hits(b"".join(texts)) if len(texts) > 1 else ():
                written = "chunks" if encoding == "plain" else f"{encoding}>chunks"
                joined[path, hit.user, hit.slot] = Sighting(
                    hit.user, hit.slot, hit.kind, path, written, hit.weak
                )
        found: dict[tuple[str, int, int], Sighting] = {}
        for piece in pieces:
            for sighting in self.scan(piece):
                key = (sighting.path, sighting.user, sighting.slot)
                whole = joined.get(key)
                # What is cut in one chunk and goes on in the next is no cut.
                alone = len(parts.get(sighting.path, ())) < 2 or (whole and whole.encoding.startswith("cut"))
                if sighting.encoding.startswith("cut") and not alone:
                    continue
                if key not in found or found[key].weak > sighting.weak:
                    found[key] = sighting
        for key, sighting in joined.items():
            if key not in found or found[key].weak > sighting.weak:
                found[key] = sighting
        return tuple(found.values())

    def redact(self, text: str, names: Callable[[int, int], str]) -> str:
        """Replace each canary that stands in a text as it is, in either case, by who it belongs to.

        Args:
            text: What is to be shown to a person.
            names: Gives the display of (user, slot), such as ``alice#0``, which becomes
                ``<canary alice#0>``.
        """
        raw = _encoded(text)
        parts, done = [], 0
        for begin, end, hit in sorted(self._places(raw, runs(raw)), key=lambda place: (place[0], -place[1])):
            if begin >= done:
                parts += [raw[done:begin], _encoded(f"<canary {names(hit.user, hit.slot)}>")]
                done = end
        return b"".join((*parts, raw[done:])).decode("utf-8", "surrogatepass") if parts else text

    def _leaf(self, value: object, parent: _Parent, found: dict[Sighting, None]) -> object:
        """Scan one value that is neither text nor container; give the seen form of anything unknown."""
        known = self._known
        hits: tuple[Hit, ...] = ()
        if isinstance(value, str):
            self._text(value, parent, found)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            for hit, encoding in self._hits(bytes(value)):
                _tell(found, hit, parent, encoding)
        elif isinstance(value, int):
            hits = self._at_int(value)
        elif isinstance(value, float):
            hits = known.at_float(value)
        elif isinstance(value, UUID):
            hits = self._owned(self._recogniser.owner_of_uuid(value.int), "uuid")
        elif isinstance(value, Decimal):
            hits = self._at_decimal(value)
        elif isinstance(value, datetime):
            hits = known.at_instant(value)
        elif isinstance(value, date):
            hits = known.at_day(value)
        elif value is not None:
            other = as_seen(value)
            return other if isinstance(other, (dict, list)) else self._leaf(str(other), parent, found)
        for hit in hits:
            _tell(found, hit, parent, hit.form or "plain")
        return None

    def _text(self, text: str, parent: _Parent, found: dict[Sighting, None]) -> None:
        # Most are of the run that is looked at: to find one learnt takes less than to check its signature.
        if hit := self._known.learnt(text):
            _tell(found, hit, parent, "plain")
            return
        raw = _encoded(text)
        if len(raw) == TOKEN_LENGTH and raw[:2] == b"cq":
            if owner := self._recogniser.owner_of_token(raw):
                _tell(found, Hit(*owner, self._known.kind_of(*owner)), parent, "plain")
                return
        elif not self._known.reads_text and is_quiet(raw):
            return
        for hit, encoding in self._hits(raw):
            _tell(found, hit, parent, encoding)

    def _hits(self, raw: bytes) -> Iterator[tuple[Hit, str]]:
        """Find the canaries in some bytes, and in what they are an encoding of."""
        todo: list[tuple[bytes, str, int]] = [(raw, "", 0)]
        views = {raw}
        told: dict[tuple[int, int], bool] = {}
        for view, chain, depth in todo:
            long_runs = runs(view)
            for begin, end, hit in self._places(view, long_runs):
                # Once, in its plainest form: what is there as it is survives most decodings.
                before = told.get((hit.user, hit.slot))
                if before is not None and before <= hit.weak:
                    continue
                told[hit.user, hit.slot] = hit.weak
                form = hit.form or _case(view[begin:end])
                yield hit, form if not chain else chain if form == "plain" else f"{form}>{chain}"
            if depth == DEPTH:
                continue
            for name, inner in layers(view, long_runs):
                if len(views) < _VIEWS and len(inner) >= CUT_LENGTH and inner not in views:
                    views.add(inner)
                    todo.append((inner, f"{name}>{chain}" if chain else name, depth + 1))

    def _places(self, raw: bytes, long_runs: list[tuple[int, int]]) -> Iterator[Place]:
        """Find the canaries that stand in some bytes as they are."""
        low = raw.lower()
        begin = low.find(b"cq")
        while begin >= 0:
            if match := _RUN.match(low, begin):
                run = match[0]
                owner = self._recogniser.owner_of_token(run) if len(run) == TOKEN_LENGTH else None
                if owner:
                    yield begin, begin + TOKEN_LENGTH, Hit(*owner, self._known.kind_of(*owner))
                else:
                    yield from self._known.tokens(low, begin, run)
            begin = low.find(b"cq", begin + 1)
        for start, end in long_runs:
            run = low[start:end]
            for match in _BIG_INT.finditer(run) if end - start >= 19 else ():
                for hit in self._owned(self._recogniser.owner_of_int(int(match[0])), "int"):
                    yield start + match.start(), start + match.end(), hit
            if b"4ccc" in run:
                for match in _UUID.finditer(run):
                    number = int(match[0].replace(b"-", b""), 16)
                    for hit in self._owned(self._recogniser.owner_of_uuid(number), "uuid"):
                        yield start + match.start(), start + match.end(), hit
        if not raw.isascii() and (_MARK in raw or _MARK_LITTLE in raw):
            yield from self._binary_uuids(raw)
        if self._known.reads_text:
            yield from self._known.places(raw)

    def _binary_uuids(self, raw: bytes) -> Iterator[Place]:
        for mark in (_MARK, _MARK_LITTLE):
            at = raw.find(mark)
            while at >= 0:
                octets = raw[at - 6 : at + 10] if at >= 6 else b""
                if len(octets) == 16:
                    number = UUID(bytes=octets) if mark is _MARK else UUID(bytes_le=octets)
                    for hit in self._owned(self._recogniser.owner_of_uuid(number.int), "uuid"):
                        yield at - 6, at + 10, Hit(hit.user, hit.slot, hit.kind, False, "binary")
                at = raw.find(mark, at + 1)

    def _at_int(self, value: int) -> tuple[Hit, ...]:
        if value < 1 << 61:
            return self._known.at_number(value)
        if value < 1 << 62:
            return self._owned(self._recogniser.owner_of_int(value), "int")
        return self._owned(self._recogniser.owner_of_uuid(value), "uuid") if value < 1 << 128 else ()

    def _at_decimal(self, value: Decimal) -> tuple[Hit, ...]:
        if not value.is_finite() or value.adjusted() > 40:
            return ()
        if value >= 1 << 61 and value == int(value):
            return self._at_int(int(value))
        return self._known.at_number(value)

    def _owned(self, owner: tuple[int, int] | None, kind: str) -> tuple[Hit, ...]:
        return (Hit(*owner, kind),) if owner else ()


class _Single:
    """Recognises one canary, for who has no mint at hand."""

    def __init__(self, canary: Canary) -> None:
        self._owner = (canary.user, canary.slot)
        self._token = canary.token.encode()
        self._value = canary.value

    def owner_of_token(self, token: bytes) -> tuple[int, int] | None:
        return self._owner if token == self._token else None

    def owner_of_int(self, value: int) -> tuple[int, int] | None:
        return self._owner if value == self._value else None

    def owner_of_uuid(self, value: int) -> tuple[int, int] | None:
        return self._owner if isinstance(self._value, UUID) and self._value.int == value else None


def sightings_of(canary: Canary, seen: object) -> tuple[Sighting, ...]:
    """Find one canary in what somebody saw, without its mint."""
    scanner = Scanner(_Single(canary))
    scanner.learn(canary)
    return scanner.scan(seen)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _case(piece: bytes) -> str:
    """How the letters of a value stand: as they were minted (lower case), upper, or mixed."""
    if piece[:2].lower() != b"cq" or piece.islower():
        return "plain"
    return "upper" if piece.isupper() else "case"


def _tell(found: dict[Sighting, None], hit: Hit, parent: _Parent, encoding: str) -> None:
    found[Sighting(hit.user, hit.slot, hit.kind, _path(parent), encoding, hit.weak)] = None


def _path(parent: _Parent) -> str:
    parts: list[str] = []
    while parent is not None:
        parent, key = parent
        parts.append(key if isinstance(key, str) else str(as_seen(key)))
    return ".".join(reversed(parts))
