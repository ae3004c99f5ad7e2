"""The normal form of what a user saw: names instead of values wherever a value is only a name.

Values are renamed in the order of first sight and never deleted, so that a user who sees another thing
under the same name still sees something else.
"""

from __future__ import annotations

import datetime
import html
import json
import re
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pytest_ssot_isolation.model.history import History
from pytest_ssot_isolation.model.paths import matches as is_at

OF_THE_TRANSPORT = tuple(
    f"headers.{name}"
    for name in (
        "date",
        "content-length",
        "age",
        "server-timing",
        "x-process-time",
        "x-response-time",
        "x-runtime",
        "retry-after",
    )
)
"""Headers that tell of time or of the body's length, which is compared itself."""

Place: TypeAlias = tuple[str, str]
"""An operation, and a dotted path in its answers with list positions as ``*``."""

_UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b|\b[0-9a-f]{32}\b")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,16}\b")
_DIGITS = re.compile(r"(?<![^\W_])\d+(?![^\W_])")
_MOMENT = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?")
_HTTP_MOMENT = re.compile(r"\b[A-Z][a-z]{2}, \d\d[ -][A-Z][a-z]{2}[ -]\d{2,4} \d\d:\d\d:\d\d\b")
_DURATION = re.compile(
    r"(?<![\w.])\d+(?:\.\d+)? ?(?:ns|µs|us|ms|s|secs?|seconds?|milliseconds?|min|minutes?)(?!\w)"
)
# Where in its own statement PostgreSQL met an error: libpq shows the line of one that was sent as text, and the
# number of the character for one that a connection had prepared, after so many uses, whosever they were.
_POINTER = re.compile(r" at character \d+\b|\nLINE \d+: .*(?:\n *\^)?")
# Nothing in such a text is ever quoted or escaped.
_SAME_EVERYWHERE = re.compile(r"[A-Za-z0-9_.~-]*")
_ID_LIKE = re.compile(r"(?:^|[._])(?:id|ids|pk|seq|serial|oid|uid|location)$|(?:Id|ID)$")


@dataclass(frozen=True, slots=True)
class Declarations:
    """What the surface's author declared of the fields of its answers.

    Attributes:
        opaque: Fields that hold names only.
        ignore: Fields that are not compared: those ignored and those shared.
        order_free: Lists whose order does not count.
    """

    opaque: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    order_free: tuple[str, ...] = ()


def matches(place: Place, patterns: Iterable[str]) -> bool:
    """Whether a field is one of those declared: by its path, or as ``operation:path``."""
    operation, path = place
    for pattern in patterns:
        wanted, _, rest = pattern.rpartition(":")
        if (not wanted or wanted == operation) and is_at(path, rest):
            return True
    return False


@dataclass(slots=True)
class Namer:
    """Renames values in the order in which they are first seen: in all that a user sees, or within each call.

    Attributes:
        within: The call whose answer is renamed, where its new values are counted apart; None to count them all.
    """

    known: Mapping[str, str]
    declared: Declarations
    opaque: frozenset[Place] = frozenset()
    masked: frozenset[Place] = frozenset()
    pick_ids: bool = False
    within: int | None = None
    counts: dict[int, int] = field(default_factory=dict)
    names: dict[tuple[str, object], str] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)
    renamed: set[Place] = field(default_factory=set)
    _words: re.Pattern[str] | None = None

    def form(self, operation: str, seen: object, path: str = "") -> object:
        """The normal form of an answer, or of a part of it."""
        place = (operation, path)
        if place in self.masked or matches(place, self.declared.ignore) or path in OF_THE_TRANSPORT:
            return "<ignored>"
        if isinstance(seen, Mapping):
            return {
                self._text(str(name)): self.form(operation, value, f"{path}.{name}" if path else str(name))
                for name, value in seen.items()
            }
        if isinstance(seen, list | tuple):
            items = [self.form(operation, value, f"{path}.*" if path else "*") for value in seen]
            if matches(place, self.declared.order_free):
                items.sort(key=repr)
            return items
        if place in self.opaque or matches(place, self.declared.opaque):
            return self._name(path.rpartition(".")[2], seen)
        return self._leaf(place, seen)

    def _leaf(self, place: Place, seen: object) -> object:
        if isinstance(seen, bool) or seen is None or isinstance(seen, float):
            return seen
        if isinstance(seen, uuid.UUID):
            return self._name("uuid", seen)
        if isinstance(seen, str):
            return self._text(seen)
        if isinstance(seen, bytes):
            return self._text(seen.decode("utf-8", "backslashreplace"))
        if isinstance(seen, int) and str(seen) in self.known:
            return self.known[str(seen)]
        if isinstance(seen, int) and self.pick_ids and is_id_like(place):
            self.renamed.add(place)
            return self._name("id", seen)
        return seen

    def _name(self, kind: str, value: object) -> str:
        if isinstance(value, Mapping | list):
            value = json.dumps(value, default=repr, sort_keys=True)
        name = self.names.get((kind, value))
        if name is None:
            if self.within is None:
                name = f"<{kind} {len(self.names)}>"
            else:
                count = self.counts.get(self.within, 0)
                self.counts[self.within] = count + 1
                name = f"<{kind} {count} of {self.within}>"
            self.names[kind, value] = name
        if isinstance(value, int | str) and not isinstance(value, bool):
            self.numbers.setdefault(str(value), name)
        return name

    def _text(self, text: str) -> str:
        if any(word in text for word in self.known):
            text = self._known_words().sub(lambda found: self.known[found[0]], text)
        if len(text) >= 8:
            text = _UUID.sub(lambda found: self._name("uuid", found[0].lower()), text)
            text = _ADDRESS.sub("<address>", text)
            text = _DURATION.sub("<duration>", text)
            text = _POINTER.sub("", text)
        return text

    def _known_words(self) -> re.Pattern[str]:
        # Compiled for the first text that holds one: each run has ids of its own, and most texts hold none.
        if self._words is None:
            longest_first = sorted(self.known, key=len, reverse=True)
            self._words = re.compile("|".join(re.escape(word) for word in longest_first))
        return self._words


def is_id_like(place: Place) -> bool:
    """Whether a field's name says that it holds an id."""
    return _ID_LIKE.search(place[1]) is not None


def known_names(history: History, nonce: str) -> dict[str, str]:
    """The ids of a run's users and tenants, in the forms in which they turn up in texts."""
    known: dict[str, str] = {}
    for kind, values in (
        ("user", [p.user_id for p in history.principals]),
        ("tenant", [p.tenant_id for p in history.principals]),
    ):
        for index, value in enumerate(values):
            for form in forms(value):
                if form:
                    known.setdefault(form, f"<{kind} {index}>")
    for form in (nonce, nonce.upper(), nonce.capitalize()):
        known.setdefault(form, "<nonce>")
    return known


def forms(text: str) -> Iterable[str]:
    """A text as it stands, quoted for URLs, escaped for JSON, HTML and Python, and in either case."""
    yield text
    if not _SAME_EVERYWHERE.fullmatch(text):
        yield urllib.parse.quote(text, safe="")
        yield urllib.parse.quote(text)
        yield urllib.parse.quote_plus(text)
        yield json.dumps(text)[1:-1]
        yield html.escape(text)
        yield repr(text)[1:-1]
        yield text.strip()
    yield text.lower()
    yield text.upper()


def is_moment(value: object) -> bool:
    """Whether a value tells a time."""
    if isinstance(value, datetime.datetime | datetime.date | datetime.time | datetime.timedelta):
        return True
    return isinstance(value, str) and bool(_MOMENT.search(value) or _HTTP_MOMENT.search(value))


Alike: TypeAlias = Callable[[object, object], bool]
"""Whether two leaves that are not equal say the same all the same."""


def alike_by_name(one: Mapping[str, str], other: Mapping[str, str], references: frozenset[str]) -> Alike:
    """Leaves are alike where they differ only in numbers that stand for the same thing in their runs.

    Args:
        one: Names of the numbers that were seen as ids in one run.
        other: The same of the other run.
        references: Names that also count where the number is all there is: what the call was given. A
            bare number that is the id of something else may well be a count.
    """

    def alike(a: object, b: object) -> bool:
        if isinstance(a, str) and isinstance(b, str):
            if _DIGITS.sub("", a) != _DIGITS.sub("", b):
                return False
            pairs = zip(_DIGITS.findall(a), _DIGITS.findall(b), strict=False)
            return all(x == y or one.get(x, x) == other.get(y, y) for x, y in pairs)
        if isinstance(a, int) and isinstance(b, int):
            name = one.get(str(a))
            return name is not None and name in references and name == other.get(str(b))
        return False

    return alike


def differences(one: object, other: object, alike: Alike, path: str = "") -> list[tuple[str, object, object]]:
    """Where two normal forms differ: the dotted path, and both values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found = []
        for name in [*one, *(name for name in other if name not in one)]:
            here = f"{path}.{name}" if path else str(name)
            if name not in one or name not in other:
                found.append((here, one.get(name, "<absent>"), other.get(name, "<absent>")))
            else:
                found += differences(one[name], other[name], alike, here)
        return found
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            row
            for a, b in zip(one, other, strict=True)
            for row in differences(a, b, alike, f"{path}.*" if path else "*")
        ]
    return [] if one == other or alike(one, other) else [(path, one, other)]


Answers: TypeAlias = Sequence[tuple[int, str, str, object]]
"""Call, operation, channel and what was seen, in the order in which one user saw it."""


def answers_of(history: History, observer: int, calls: Callable[[int], bool]) -> Answers:
    """What one user saw in answer to the calls that count; logs apart, which are no user's view."""
    return [
        (o.call, o.operation, o.channel, {"outcome": o.outcome.value, "seen": o.seen})
        for o in history.observations
        if o.user == observer and o.channel != "log" and (o.call < 0 or calls(o.call))
    ]


def unwrapped(form: object) -> tuple[Any, Any]:
    """Outcome and seen form of an answer."""
    if isinstance(form, Mapping):
        return form.get("outcome"), form.get("seen")
    return None, form
