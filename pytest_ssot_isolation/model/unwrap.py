"""Takes one layer of encoding off some bytes: compression, base64, hex, escapes, wide characters."""

from __future__ import annotations

import re
import zlib
from binascii import Error, a2b_base64, unhexlify
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

RUN_LENGTH = 19
"""Letters, digits and base64 signs in a row below which nothing encoded, and no wide number, can hide."""
LARGEST = 4 << 20
"""Bytes that are unpacked at most; what is compressed may be a bomb."""

_SIGNS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-"
_MAP = bytes(ord("A") if octet in _SIGNS else ord(" ") for octet in range(256))
_RUN = b"A" * RUN_LENGTH
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_LINES = re.compile(rb"[A-Za-z0-9+/_-]+(?:\r?\n[A-Za-z0-9+/_-]+)*")
_HEX = re.compile(rb"[0-9a-fA-F]{36,}")
_PERCENT = re.compile(rb"%[0-9a-fA-F]{2}")
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([\"'\\/]))")
_REFERENCE = re.compile(rb"&#(?:[xX]([0-9a-fA-F]{1,6})|([0-9]{1,7}));?")


def runs(raw: bytes) -> list[tuple[int, int]]:
    """Find begin and end of each long run of letters, digits and base64 signs.

    Much cheaper than a pattern that tries each word of a prose text from each of its letters.
    """
    mapped = raw.translate(_MAP)
    begin = mapped.find(_RUN)
    found: list[tuple[int, int]] = []
    while begin >= 0:
        end = mapped.find(b" ", begin + RUN_LENGTH)
        if end < 0:
            end = len(raw)
        found.append((begin, end))
        begin = mapped.find(_RUN, end)
    return found


def layers(raw: bytes, long_runs: list[tuple[int, int]]) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each encoding that may have been applied, with what was there before it."""
    if raw[:2] == b"\x1f\x8b":
        yield from _inflated("gzip", raw, 31)
    elif len(raw) > 8 and raw[0] & 0x0F == 8 and (raw[0] << 8 | raw[1]) % 31 == 0:
        yield from _inflated("zlib", raw, 15)
    if b"\0" in raw:
        # Enough for ASCII in either byte order, and for UTF-32; canaries are nothing but ASCII.
        yield "utf-16", raw.replace(b"\0", b"")
    if b"%" in raw and _PERCENT.search(raw):
        yield "url", unquote_to_bytes(raw)
    if b"\\" in raw:
        yield from _replaced("json", raw, _ESCAPE.sub(_escaped, raw))
    if b"&" in raw and b"&#" in raw:
        yield from _replaced("html", raw, _REFERENCE.sub(_referred, raw))
    done = 0
    for begin, end in long_runs:
        if begin < done or end - begin < 22:  # 16 octets, a UUID, are 22 characters of base64
            continue
        if end - begin >= 60 and raw[end : end + 1] in (b"\n", b"\r"):
            lines = _LINES.match(raw, begin)
            end = done = lines.end() if lines else end
            yield from _from_run(raw[begin:end].replace(b"\r", b"").replace(b"\n", b""))
        else:
            yield from _from_run(raw[begin:end])


def _from_run(run: bytes) -> Iterator[tuple[str, bytes]]:
    if _is_uuid(run):
        return
    for match in _HEX.finditer(run):
        digits = match[0]
        # An odd one may be of what stands in front.
        for offset in range(1 + len(digits) % 2):
            inner = unhexlify(digits[offset : len(digits) - (len(digits) - offset) % 2])
            if _telling(inner):
                yield "hex", inner
        if len(digits) == len(run):
            return
    name = "base64url" if b"-" in run or b"_" in run else "base64"
    signs = run.translate(_URLSAFE)
    for offset in range(4):
        # A run may begin with letters that are not part of what was encoded.
        part = signs[offset:]
        if len(part) % 4 == 1:
            part = part[:-1]
        try:
            inner = a2b_base64(part + b"=" * (-len(part) % 4))
        except Error:  # pragma: no cover - the length and the signs are right
            continue
        if _telling(inner):
            yield name, inner


def _telling(inner: bytes) -> bool:
    """Tell whether a decoding can lead anywhere: most of what looks encoded is not, and gives noise."""
    return (
        inner.isascii()
        or inner[:2] == b"\x1f\x8b"
        or inner[:1] == b"\x78"
        or b"cq" in inner.lower()
        or b"\x4c\xcc\x8c" in inner
        or b"\xcc\x4c\x8c" in inner
        or inner.translate(_MAP).find(_RUN) >= 0
    )


def _is_uuid(run: bytes) -> bool:
    """Tell a UUID, the commonest long run there is, with nothing encoded inside."""
    return len(run) == 36 and run[8] == run[13] == run[18] == run[23] == 0x2D


def is_quiet(raw: bytes) -> bool:
    """Tell whether there is neither a token, a long run nor an escape in a text: most texts are so."""
    if _is_uuid(raw) and raw[14:18].lower() != b"4ccc":
        return b"cq" not in raw.lower()
    return (
        b"cq" not in raw.lower()
        and b"\\" not in raw
        and b"%" not in raw
        and b"&" not in raw
        and b"\0" not in raw
        and (len(raw) < RUN_LENGTH or raw.translate(_MAP).find(_RUN) < 0)
    )


def _inflated(name: str, raw: bytes, window: int) -> Iterator[tuple[str, bytes]]:
    try:
        yield name, zlib.decompressobj(window).decompress(raw, LARGEST)
    except zlib.error:
        return


def _replaced(name: str, before: bytes, after: bytes) -> Iterator[tuple[str, bytes]]:
    if after != before:
        yield name, after


def _escaped(match: re.Match[bytes]) -> bytes:
    digits = match[1] or match[2]
    return _character(int(digits, 16)) if digits else match[3]


def _referred(match: re.Match[bytes]) -> bytes:
    return _character(int(match[1], 16) if match[1] else int(match[2]))


def _character(number: int) -> bytes:
    return bytes((number,)) if number < 128 else b" "
