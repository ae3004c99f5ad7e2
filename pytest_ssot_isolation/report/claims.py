"""The claims of the proof: read from TOML, the shipped ones first, then the project's own over them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pytest_ssot_isolation.errors import IsolationError

AREAS: Final = ("isolation", "ssot", "performance", "stability", "security")
READINESS, COMPLIANCE = 7, 8
"""Sections that are counted from the others, and hold no claims of their own."""

_KEYS: Final = frozenset(
    {"section", "area", "text", "controls", "needs", "budgets", "before", "benchmark", "drop"}
)
_BARS: Final = ("mean", "median", "max")


class BadClaims(IsolationError):
    """A file of claims cannot be read as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bound for one benchmark, in seconds.

    Attributes:
        users: The number of users it is for; None is for any.
        mean: Bound of the mean; None binds nothing.
        median: Bound of the median.
        max: Bound of the longest round.
        before: Seconds to show beside, for so many users; None for none.
    """

    users: int | None = None
    mean: float | None = None
    median: float | None = None
    max: float | None = None
    before: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One sentence of the proof.

    Attributes:
        name: Its id, as tests name it.
        section: Number of its section.
        area: Where the readiness counts it.
        text: What holds where it is proved.
        controls: Controls that it is evidence for.
        needs: What a run may lack, in words; empty if it can be shown anywhere.
        bars: Bounds for its benchmarks.
        before: Seconds to show beside a figure whose bar has none of its own; None for none.
        is_measured: Whether it takes a benchmark and a bar to prove it.
    """

    name: str
    section: int
    area: str
    text: str
    controls: tuple[str, ...] = ()
    needs: str = ""
    bars: tuple[Bar, ...] = ()
    before: float | None = None
    is_measured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """All claims, and the titles of the sections."""

    sections: Mapping[int, str]
    claims: tuple[Claim, ...]


def read_claims(path: Path | None = None) -> Claims:
    """Read the shipped claims, and the project's own over them.

    Args:
        path: The project's file; None for the shipped claims alone.

    Raises:
        BadClaims: A file cannot be read, or says something that is no claim.
    """
    shipped = (
        resources.files("pytest_ssot_isolation").joinpath("_data", "claims.toml").read_text(encoding="utf-8")
    )
    document = tomllib.loads(shipped)
    if path is not None:
        try:
            own = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise BadClaims(
                f"ssot_claims names {path}, which cannot be read: {problem}.\n"
                "To fix this, correct the file, or leave ssot_claims out for the shipped claims."
            ) from problem
        _merge(document, own, path)
    sections = {int(number): str(title) for number, title in document["sections"].items()}
    claims = [_claim(name, row, sections) for name, row in document["claims"].items() if not row.get("drop")]
    return Claims(
        sections=dict(sorted(sections.items())),
        claims=tuple(sorted(claims, key=lambda claim: claim.section)),
    )


def _merge(document: dict[str, Any], own: Mapping[str, Any], path: Path) -> None:
    for table in own:
        if table not in ("sections", "claims"):
            raise BadClaims(f"{path} has a table {table!r}; a file of claims has `sections` and `claims`.")
    for number, title in own.get("sections", {}).items():
        if not number.isdigit() or not isinstance(title, str):
            raise BadClaims(
                f'{path}: a section is a number and a title, as in `9 = "Backups"`, not {number!r}.'
            )
        document["sections"][number] = title
    for name, row in own.get("claims", {}).items():
        if not isinstance(row, dict):
            raise BadClaims(f"{path}: the claim {name!r} must be a table: [claims.{name!r}].")
        document["claims"][name] = {**document["claims"].get(name, {}), **row}


def _claim(name: str, row: Mapping[str, Any], sections: Mapping[int, str]) -> Claim:
    if unknown := sorted(set(row) - _KEYS):
        raise BadClaims(
            f"The claim {name!r} has {', '.join(unknown)}; it may have {', '.join(sorted(_KEYS))}."
        )
    for key, kind in (("section", int), ("text", str)):
        if not isinstance(row.get(key), kind):
            raise BadClaims(
                f"The claim {name!r} needs {key!r}, {'a number' if kind is int else 'a sentence'}."
            )
    if row["section"] not in sections or row["section"] in (READINESS, COMPLIANCE):
        open_ones = ", ".join(str(number) for number in sections if number not in (READINESS, COMPLIANCE))
        raise BadClaims(f"The claim {name!r} is in section {row['section']}; claims may be in {open_ones}.")
    area = row.get("area", "stability")
    if area not in AREAS:
        raise BadClaims(f"The claim {name!r} is in the area {area!r}; areas are {', '.join(AREAS)}.")
    bars = []
    for bar in row.get("budgets", ()):
        if (
            not isinstance(bar, dict)
            or not set(bar) <= {"users", "before", *_BARS}
            or not set(bar) & set(_BARS)
        ):
            raise BadClaims(
                f"The claim {name!r} has the budget {bar!r}; a budget has mean, median or max, in seconds, "
                "and may have users and before."
            )
        bars.append(Bar(**bar))
    return Claim(
        name=name,
        section=row["section"],
        area=area,
        text=row["text"],
        controls=tuple(row.get("controls", ())),
        needs=row.get("needs", ""),
        bars=tuple(bars),
        before=row.get("before"),
        is_measured=bool(row.get("benchmark") or bars),
    )
