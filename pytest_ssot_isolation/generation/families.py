"""The hostile relatives of one id: texts that a careless application takes for the same.

Careless means any of: lower-casing, stripping, normalising, cutting, joining with a separator,
decoding, matching as a pattern, resolving as a path, reading as a number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from pytest_ssot_isolation.model.context import MAX_ID_LENGTH, problem_with

SEPARATORS: Final = (
    ":",
    "/",
    "|",
    "-",
    "_",
    ".",
    "%",
    ",",
    ";",
    "#",
    "@",
    "+",
    "~",
    "\\",
    " ",
    "&",
    "=",
    "$",
    "!",
)
"""What applications join ids and keys with, the usual ones first."""

# The longest comes first: two ids that agree up to there agree at each shorter cut as well. The shorter
# ones are for applications that refuse long ids.
CUTS: Final = (128, 64, 32, 16, 12, 63, 31, 48, 100, 40, 20, 24, 30, 36, 50, 60, 127)
"""Numbers of leading characters after which ids are commonly cut off."""

LONG_CUTS: Final = (254, 200, 150)
"""Such numbers for the widest columns and longest keys; an application may refuse ids that long, and no others."""

WORDS: Final = ("admin", "user", "test", "notes", "tenant", "default", "system", "shared", "id")
"""Words that applications put beside an id to make a key of it."""


@dataclass(frozen=True, slots=True)
class Relative:
    """A text that some applications confuse with its base id, or with its twin of the same family.

    Attributes:
        text: A valid id, other than the base and than each other relative of it.
        family: In which way it is alike; one of `FAMILIES`.
    """

    text: str
    family: str


Unit = tuple[str, ...]
"""One text, confused with the base; or two, confused with each other."""


@dataclass(frozen=True, slots=True)
class _Base:
    head: str
    tail: str

    @property
    def text(self) -> str:
        return self.head + self.tail

    def swapped(self, old: str, *news: str) -> Iterator[Unit]:
        """Put each new text where the old one stands last; without an old one make twins that end in it."""
        before, found, after = self.tail.rpartition(old)
        for new in news:
            if found:
                yield (self.head + before + new + after,)
            else:
                yield (self.text + old, self.text + new)


def relatives(base: str, *, keep: int = 0) -> tuple[Relative, ...]:
    """Return all hostile relatives of one id, in a fixed order, family by family.

    Args:
        base: A valid id.
        keep: How many leading characters of the base each relative holds unchanged (a nonce, say).
    """
    return tuple(Relative(text, family) for family, unit in units(base, keep) for text in unit)


@lru_cache(maxsize=256)
def units(base: str, keep: int = 0) -> tuple[tuple[str, Unit], ...]:
    """Return the relatives of one id as pairs of family and unit; no text occurs twice."""
    split = _Base(base[:keep], base[keep:])
    seen = {base}
    found: list[tuple[str, Unit]] = []
    for family, grow in _GROWERS.items():
        for unit in grow(split):
            fresh = tuple(text for text in dict.fromkeys(unit) if text not in seen)
            if not fresh or any(problem_with(text) for text in unit):
                continue
            seen.update(fresh)
            found.append((family, fresh))
    return tuple(found)


def _case(base: _Base) -> Iterator[Unit]:
    yield (base.head + base.tail.upper(),)
    yield (base.head + base.tail.lower(),)
    yield (base.head + base.tail.title(),)
    yield (base.head + base.tail.swapcase(),)
    yield (base.text + "a", base.text + "A")


def _space(base: _Base) -> Iterator[Unit]:
    for space in (" ", "\u00a0", "\t", "\u3000", "\u2009", "\u2028", "  "):
        yield (base.text + space,)
        yield (space + base.text,)


def _part(base: _Base) -> Iterator[Unit]:
    yield (base.text + "1",)
    yield (base.text[:-1] if base.tail else "",)
    yield ("1" + base.text,)
    yield (base.text + "0",)
    yield (base.text + "x",)
    yield (base.text * 2,)
    yield (base.head + base.tail[: len(base.tail) // 2],)
    # Without a nonce to keep, the end of an id alone is a relative too.
    yield (base.tail[1:] if not base.head else "",)


def _separator(base: _Base) -> Iterator[Unit]:
    own = next((separator for separator in SEPARATORS if separator in base.tail), None)
    if own is None:
        yield from (
            (base.text + first + "1", base.text + second + "1") for first, second in pairwise(SEPARATORS)
        )
    else:
        others = [other for other in ("_", ":", "/", *SEPARATORS) if other != own]
        yield from base.swapped(own, *others[:3], own * 2, "", *dict.fromkeys(others))
    for separator in SEPARATORS:
        yield (base.text + separator,)
    for separator in SEPARATORS[:6]:
        yield (separator + base.text,)
        yield (base.text + separator + "x", base.text + separator * 2 + "x")


def _form(base: _Base) -> Iterator[Unit]:
    vowel = next((letter for letter in reversed(base.tail) if letter in "aeiou"), "e")
    for unit in base.swapped(vowel, vowel + "\u0301"):
        yield (unicodedata.normalize("NFC", unit[-1]), unicodedata.normalize("NFD", unit[-1]))
    yield (base.text + "\u00c5", base.text + "\u212b")  # A with a ring, and the sign for angstrom
    yield (base.text + "\uac00", base.text + "\u1100\u1161")  # one Hangul syllable, and its two letters
    yield (base.text + "q\u0323\u0307", base.text + "q\u0307\u0323")  # marks in either order


def _compatibility(base: _Base) -> Iterator[Unit]:
    letter = next((letter for letter in reversed(base.tail) if "!" <= letter <= "~"), "a")
    yield from base.swapped(letter, chr(ord(letter) + 0xFEE0))  # fullwidth
    yield from base.swapped("k", "\u212a")  # the sign for kelvin
    yield from base.swapped("s", "\u017f")  # long s
    yield (base.text + "fi", base.text + "\ufb01")
    yield (base.text + "2", base.text + "\u00b2")
    yield (base.text + "...", base.text + "\u2026")
    yield (base.text + "IV", base.text + "\u2163")


def _folding(base: _Base) -> Iterator[Unit]:
    yield from base.swapped("ss", "\u00df")  # sharp s
    yield from base.swapped("i", "\u0131", "\u0130", "I")  # dotless i, and I with a dot
    yield from base.swapped("ss", "\u1e9e")  # large sharp s
    yield (base.text + "\u03c3", base.text + "\u03c2")  # sigma, in the middle and at the end
    yield (base.text + "e", base.text + "\u00e9")


def _invisible(base: _Base) -> Iterator[Unit]:
    for mark in ("\u200b", "\u00ad", "\ufeff", "\u200d", "\u2060", "\ufe0f", "\u200e"):
        yield (base.text + mark,)


def _lossy(base: _Base) -> Iterator[Unit]:
    yield (base.text + "\U0001f600", base.text + "\U0001f601")
    yield (base.text + "\u00e0", base.text + "\u00e8")
    yield (base.text + "\u4e00", base.text + "\u4e8c")


def _cut(base: _Base) -> Iterator[Unit]:
    filler = (base.text + "abcdefghij" * (MAX_ID_LENGTH // 10))[:MAX_ID_LENGTH]
    for cut in CUTS:
        if cut >= len(base.head):
            yield (filler[:cut] + "y", filler[:cut] + "z")


def _long_cut(base: _Base) -> Iterator[Unit]:
    for cut in LONG_CUTS:
        filler = (base.text + "abcdefghij" * (MAX_ID_LENGTH // 10))[:cut]
        yield (filler + "y", filler + "z")


def _equal_end(base: _Base) -> Iterator[Unit]:
    for length in (64, 32, 12):
        end = ("klmnopqrst" * 7)[:length]
        yield (base.text + "y" + end, base.text + "z" + end)


def _code(base: _Base) -> Iterator[Unit]:
    letter = next((letter for letter in reversed(base.tail) if letter.isascii() and letter.isalpha()), "a")
    code = ord(letter)
    yield from base.swapped(letter, f"%{code:02X}", f"\\u{code:04x}", f"&#{code};", f"%25{code:02X}")
    yield from base.swapped(letter, f"\\x{code:02x}", f"%u{code:04x}", f"&#x{code:x};", f"={code:02X}")
    yield (base.text + ":x", base.text + "%3Ax")
    yield (base.text + "/x", base.text + "%2Fx")
    yield (base.text + "&x", base.text + "&amp;x")
    yield (base.text + "+x", base.text + "%20x")
    yield (base.text + "+y", base.text + " y")


def _word(base: _Base) -> Iterator[Unit]:
    yield (f"user:{base.text}",)
    yield (f"{base.text}@example.test",)
    yield (f"{base.text}+tag",)
    yield (f"{base.text}:admin",)
    for word in WORDS:
        yield (f"{word}:{base.text}",)
        yield (f"{base.text}:{word}",)
        yield (f"{word}_{base.text}",)
        yield (f"{word}{base.text}",)
        yield (f"{base.text}-{word}",)
        yield (f"{base.text}{word}",)


def _pattern(base: _Base) -> Iterator[Unit]:
    stem = base.text[:-1] if base.tail else base.text
    last = base.tail[-1:] or "a"
    for sign in ("%", "_", "*", "?", f"[{last}]", ".", "\\" + last, ".*", f"({last})", f"{{{last}}}"):
        yield (stem + sign,)
    for sign in ("%", "*", ".*", "$"):
        yield (base.text + sign,)
    for sign in ("%", "*", "^"):
        yield (sign + base.text,)


def _number(base: _Base) -> Iterator[Unit]:
    found = re.search(r"[0-9]+\Z", base.tail)
    digits = found[0] if found else "7"
    wide = "".join(chr(ord(digit) + 0xFEE0) for digit in digits)
    arabic = "".join(chr(ord(digit) - ord("0") + 0x0660) for digit in digits)
    yield from base.swapped(digits, "0" + digits, digits + ".0", "+" + digits, wide, digits + "e0")
    yield from base.swapped(digits, arabic, "0_" + digits, "00" + digits, digits + ".", f"0x{int(digits):x}")


def _path(base: _Base) -> Iterator[Unit]:
    yield (f"x/../{base.text}",)
    yield (f"./{base.text}",)
    yield (f"{base.text}/.",)
    yield (f"{base.text}/x/..",)
    yield (base.text + "/x", base.text + "//x")
    yield (f".\\{base.text}",)
    yield (f"{base.text}?x",)
    yield (f"{base.text}#x",)
    yield (f"{base.text}.json",)


def _quote(base: _Base) -> Iterator[Unit]:
    for quote in ("'", '"', "`"):
        yield (quote + base.text + quote,)
        yield (base.text + quote,)
    yield (base.text + "'x", base.text + "''x")
    yield (base.text + "' OR ''='",)
    yield (base.text + "'--",)
    yield (base.text + "\\'",)
    yield (f"{{{base.text}}}",)
    yield (f"[{base.text}]",)


# The order is that of value in a sweep cut short: what applications do to ids most often comes first.
_GROWERS: Final[dict[str, Callable[[_Base], Iterator[Unit]]]] = {
    "letter case": _case,
    "space at an end": _space,
    "part of another": _part,
    "separator": _separator,
    "Unicode form": _form,
    "equal beginning": _cut,
    "long equal beginning": _long_cut,
    "compatibility letter": _compatibility,
    "escaped character": _code,
    "word beside it": _word,
    "number form": _number,
    "pattern sign": _pattern,
    "case folding": _folding,
    "path form": _path,
    "quote": _quote,
    "invisible character": _invisible,
    "lossy encoding": _lossy,
    "equal end": _equal_end,
}

FAMILIES: Final = tuple(_GROWERS)
"""The names of all families of relatives, the most valuable first."""
