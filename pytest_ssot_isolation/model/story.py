"""A history told to a person: a line for each call, a column for each user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One call as a person reads it.

    Attributes:
        number: Place in the story, from 0.
        user: Index of the user in ``Story.users``.
        call: The call with its arguments, canaries by name.
        answer: What came back, cut short.
        saw: What it shows that the finding is about; empty otherwise.
        began: Moment at which the call began; all begins and ends of a run are counted together.
        ended: Moment at which it ended, in the same count.
        overlaps: Numbers of calls by others that were open at the same time.
        fault: What was done to the call, in words; empty without a fault.
    """

    number: int
    user: int
    call: str
    answer: str
    saw: str = ""
    began: int = 0
    ended: int = 0
    overlaps: tuple[int, ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The minimal history of a finding.

    Attributes:
        users: Display names, such as ``bob (tenant B, id 'x:y')``.
        lines: The calls in the order in which they began.
        switches: Where one user stopped and another went on, a sentence each; only of an
            interleaving that is not the natural one.
        ids: The user id of each, as the application got it.
        tenants: The tenant id of each; empty texts without one.
    """

    users: tuple[str, ...]
    lines: tuple[Line, ...]
    ids: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Story:
        """The story that ``dataclasses.asdict`` made plain."""
        lines = [Line(**{**line, "overlaps": tuple(line["overlaps"])}) for line in plain["lines"]]
        return cls(
            users=tuple(plain["users"]),
            lines=tuple(lines),
            ids=tuple(plain.get("ids", ())),
            tenants=tuple(plain.get("tenants", ())),
            switches=tuple(plain.get("switches", ())),
        )
