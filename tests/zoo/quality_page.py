"""The quality table as a page: results in, text out."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .exhibits import Row
from .quality_work import Result

HEAD = (
    "| leak | family | needs | found | by oracle | programs: median, worst | calls, median (fewest) "
    "| seconds: median, worst | clean calls | false alarms | not clean |"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the page says of the run.

    Attributes:
        at: When it ended.
        version: Of the package.
        python: Of the interpreter.
        profile: Of all checks.
        seeds: That each leak was to be hunted under.
        command: How it was started.
        duration: Of the run that wrote the page, and what was known before, in words.
        states: Of package and zoo: when the leaks were hunted, and when the safe twins were looked at.
        not_run: Rows whose server is not installed.
    """

    at: datetime
    version: str
    python: str
    profile: str
    seeds: int
    command: str
    duration: str
    states: tuple[str, str]
    not_run: Sequence[str] = ()


def render(rows: Sequence[Row], results: Sequence[Result], facts: Facts) -> str:
    """The whole page."""
    by_row = [Tally(row, [result for result in results if result.row == row.name]) for row in rows]
    servers = sorted({result.server for result in results if result.server})
    plural = "s" if facts.seeds != 1 else ""
    lines = [
        "# Quality",
        "",
        "How well planted leaks are found, and how often an application without one is accused. Written by",
        f"`{facts.command}`; not edited by hand.",
        "",
        f"{facts.at:%Y-%m-%d %H:%M} UTC, version {facts.version}, Python {facts.python}, profile `{facts.profile}`, "
        f"{facts.seeds} seed{plural} a row. {facts.duration}",
        *(f"Server: {line}." for line in servers),
        f"State of package and zoo: hunts `{facts.states[0]}`, safe twins `{facts.states[1]}`.",
        *(
            [f"Not run, since their server is not installed: {', '.join(facts.not_run)}."]
            if facts.not_run
            else []
        ),
        "",
        *_summary(by_row),
        "",
        "A hunt ends at its first finding; `programs` counts those to it, the sweep of look-alike ids included,",
        "`calls` those of its reduced history. `not clean` tells what else a check came to, and how often.",
        "",
        HEAD,
        "|" + "---|" * HEAD.count(" | ") + "---|",
        *(tally.line() for tally in by_row),
        "",
        *_by_family(by_row),
        "",
    ]
    return "\n".join(lines)


class Tally:
    """One row of the table.

    Args:
        row: Of the zoo.
        results: All of it.
    """

    def __init__(self, row: Row, results: Sequence[Result]) -> None:
        self.row = row
        self.hunts = [result for result in results if result.kind == "hunt"]
        self.twins = [result for result in results if result.kind == "twin"]
        self.found = [result for result in self.hunts if result.is_found]

    @property
    def median(self) -> float:
        """Programs to the first finding."""
        return statistics.median(result.examples for result in self.found)

    @property
    def clean_calls(self) -> int:
        """Of checks that were clean."""
        return sum(result.calls for result in self.twins if result.is_good)

    def line(self) -> str:
        """As the table has it."""
        row = self.row
        oracles = Counter(result.oracle for result in self.hunts if result.oracle)
        names = ", ".join(
            f"{name} {times}" if len(oracles) > 1 else name for name, times in oracles.most_common()
        )
        odd = Counter(
            " ".join(filter(None, (result.kind, result.verdict, result.problem.replace("|", "/"))))
            for result in (*self.hunts, *self.twins)
            if not result.is_good
        )
        calls = [result.calls for result in self.found]
        seconds = [result.seconds for result in self.hunts]
        cells = [
            f"{row.name}{' (deep)' if row.is_deep else ''}",
            str(row.family),
            row.needs or "nothing",
            f"{len(self.found)} of {len(self.hunts)}",
            f"{names or 'none'}{'' if set(oracles) <= row.oracles else f' (meant: {row.oracle})'}",
            f"{self.median:g}, {max(r.examples for r in self.found)}" if self.found else "-",
            f"{statistics.median(calls):g} ({row.fewest_calls})" if calls else "-",
            f"{statistics.median(seconds):.1f}, {max(seconds):.1f}" if seconds else "-",
            f"{self.clean_calls:,}",
            str(sum(result.findings for result in self.twins)),
            "; ".join(f"{what} ({times})" for what, times in odd.items()),
        ]
        return "| " + " | ".join(cells) + " |"


def _summary(rows: Sequence[Tally]) -> list[str]:
    hunts = [result for tally in rows for result in tally.hunts]
    twins = [result for tally in rows for result in tally.twins]
    found = [result for result in hunts if result.is_found]
    always = sum(bool(tally.hunts) and len(tally.found) == len(tally.hunts) for tally in rows)
    named = sum(all(result.oracle in tally.row.oracles for result in tally.found) for tally in rows)
    needs = Counter(tally.row.needs or "no server" for tally in rows)
    lines = [
        f"* Rows: {len(rows)} in {len({tally.row.family for tally in rows})} families: "
        + ", ".join(f"{count} with {need}" for need, count in needs.items())
        + f". Found under every seed: {always}; never by another oracle than the table names for them: {named}.",
        f"* Hunts that found the leak: {len(found)} of {len(hunts)}.",
    ]
    with_any = [tally for tally in rows if tally.found]
    if with_any:
        examples = [result.examples for result in found]
        reduced = [statistics.median(result.calls for result in tally.found) for tally in with_any]
        lines += [
            f"* Programs to the first finding: median over the rows "
            f"{statistics.median(tally.median for tally in with_any):g}; the largest median of a row "
            f"{max(tally.median for tally in with_any):g}; 95th percentile of all hunts "
            f"{percentile(examples, 0.95):g}.",
            f"* Calls in the reduced history, median over the rows: {statistics.median(reduced):g}.",
        ]
    alarms = sum(result.findings for result in twins)
    unclear = sum(result.verdict == "inconclusive" for result in twins)
    broken = sum(not result.verdict for result in twins)
    lines.append(
        f"* Safe twins: {sum(tally.clean_calls for tally in rows):,} clean calls in {len(twins)} checks, "
        f"{alarms} false alarms, {unclear} inconclusive, {broken} that broke off."
    )
    return lines


def _by_family(rows: Sequence[Tally]) -> list[str]:
    """By which oracles the leaks of each family were found."""
    lines = ["| family | rows | hunts by oracle |", "|---|---|---|"]
    for family in sorted({tally.row.family for tally in rows}):
        own = [tally for tally in rows if tally.row.family == family]
        oracles = Counter(result.oracle for tally in own for result in tally.found)
        told = ", ".join(f"{name} {times}" for name, times in oracles.most_common())
        lines.append(f"| {family} | {len(own)} | {told or 'none'} |")
    return lines


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
