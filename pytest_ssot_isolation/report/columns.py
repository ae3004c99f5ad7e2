"""A story as a table of text: steps go down, users go across."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.story import Line, Story

MARGIN = 5
"""Columns of text before the first user: a mark, and the number of the step."""

GAP = 2
NARROWEST = 22
"""With less room for each user, a story is told with the user's name in each row."""


@dataclass(frozen=True, slots=True)
class _Row:
    """What one user did at one moment."""

    line: Line
    parts: tuple[str, ...]
    is_end: bool


def table(story: Story, width: int) -> list[str]:
    """Return a story as lines of text.

    A call during which no other user's call was open is one row. Where calls overlap, each has a row for
    its begin and one for its end, and a bar between them.

    Args:
        story: The calls, in the order in which they began.
        width: Characters in a line.
    """
    count = max(1, len(story.users))
    room = (width - MARGIN) // count - GAP
    if room < NARROWEST and count > 1:
        return _list(story, width)
    out = [_joined("", [[printable(short(user))] for user in story.users], room)]
    out.append(_joined("", [["-" * min(room, max(5, _cells(short(user))))] for user in story.users], room))
    still_open: dict[int, int] = {}
    for row in _rows(story):
        cells: list[list[str]] = []
        wrapped = _wrapped(row.parts, room)
        if row.is_end:
            still_open.pop(row.line.user, None)
        for user in range(count):
            if user == row.line.user:
                cells.append(wrapped)
            else:
                cells.append(["|"] * len(wrapped) if user in still_open else [""])
        if not row.is_end and row.line.overlaps:
            still_open[row.line.user] = row.line.number
        for place in range(len(wrapped)):
            margin = _margin(row) if place == 0 else ""
            out.append(_joined(margin, [cell[place : place + 1] or [""] for cell in cells], room))
    return [line.rstrip() for line in out]


def short(user: str) -> str:
    """The name of a user without what stands in brackets behind it."""
    return user.partition(" (")[0]


def printable(text: str) -> str:
    """A text of the application without what would disturb a terminal: controls, marks of direction."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def readable(text: str) -> str:
    """``printable``, for a text of ours that is told in lines of its own, such as a stack."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _rows(story: Story) -> Iterable[_Row]:
    moments: list[tuple[int, int, _Row]] = []
    for line in story.lines:
        answer = f"-> {line.answer}"
        seen = (f"^^ {line.saw}",) if line.saw else ()
        fault = (f"!! {line.fault}",) if line.fault else ()
        if line.overlaps:
            moments.append((line.began, line.number, _Row(line, (line.call, "begins"), False)))
            ended = (f"{_name(line)} ends", answer, *fault, *seen)
            moments.append((line.ended, line.number, _Row(line, ended, True)))
        else:
            moments.append((line.began, line.number, _Row(line, (line.call, answer, *fault, *seen), True)))
    return [row for _, _, row in sorted(moments, key=lambda moment: moment[:2])]


def _name(line: Line) -> str:
    return line.call.partition("(")[0]


def _margin(row: _Row) -> str:
    mark = ">" if row.line.saw and row.is_end else " "
    return f"{mark}{row.line.number:>2}"


def _wrapped(parts: Sequence[str], room: int) -> list[str]:
    """Text in a column: in one line where there is room, else each part from a line of its own."""
    clean = [printable(part) for part in parts]
    call, *rest = clean
    out: list[str] = []
    if rest and not rest[0].startswith(("^^", "!!")) and _cells(f"{call} {rest[0]}") <= room:
        call, rest = f"{call} {rest[0]}", rest[1:]
    out += _broken(call, room)
    for part in rest:
        out += _broken(part, room)
    return out


def _broken(text: str, room: int) -> list[str]:
    """A text broken at spaces; a canary's name stays in one piece."""
    held = text.replace("<canary ", "<canary\x00")
    lines = textwrap.wrap(
        held, room, subsequent_indent="   ", break_on_hyphens=False, drop_whitespace=True
    ) or [""]
    return [line.replace("\x00", " ") for line in lines]


def _joined(margin: str, cells: Sequence[Sequence[str]], room: int) -> str:
    text = margin.ljust(MARGIN)
    for cell in cells:
        text += _padded(cell[0], room) + " " * GAP
    return text.rstrip()


def _padded(text: str, room: int) -> str:
    return text + " " * max(0, room - _cells(text))


def _cells(text: str) -> int:
    """Places that a text takes in a terminal, where East Asian characters are two wide."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _list(story: Story, width: int) -> list[str]:
    """The same for more users than there is room for: the name stands in each row."""
    names = [printable(short(user)) for user in story.users]
    widest = max(_cells(name) for name in names)
    room = width - MARGIN - widest - GAP
    out = []
    for row in _rows(story):
        for place, text in enumerate(_wrapped(row.parts, room)):
            margin, name = (_margin(row), names[row.line.user]) if place == 0 else ("", "")
            out.append(f"{margin.ljust(MARGIN)}{_padded(name, widest)}{' ' * GAP}{text}".rstrip())
    return out
