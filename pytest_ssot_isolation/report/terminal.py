"""A report as text for a terminal: each finding is a short story."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pytest_ssot_isolation.model.mutants import KILLED
from pytest_ssot_isolation.model.verdict import Verdict
from pytest_ssot_isolation.report.columns import printable, readable, short, table
from pytest_ssot_isolation.report.lookalikes import difference, spelled

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.mutants import Mutants
    from pytest_ssot_isolation.model.report import Report
    from pytest_ssot_isolation.model.story import Story
    from pytest_ssot_isolation.model.verdict import Finding

WIDTH = 96
"""Characters in a line. pytest puts four before each line of a failure."""

LABEL = 11
"""Columns that ``why``, ``shrunk`` and their like stand in."""

INDENT = " " * 6

CANARY = re.compile(r"<canary [^>]+>")

_PLACES = {
    "result": "the answer",
    "log": "a log record written during",
    "websocket": "a message pushed during",
}


def render(reports: Sequence[Report], *, width: int = WIDTH) -> str:
    """Return reports as a person reads them, without colours.

    Args:
        reports: What checks came to, in order.
        width: Characters in a line, except in a command that is to be copied.
    """
    return "\n\n".join(_report(report, width) for report in reports)


def summary(reports: Sequence[Report], *, width: int = WIDTH) -> str:
    """Return reports with a line or two each, for the end of a run, whose failures told the rest.

    Args:
        reports: What the checks of the run came to, in order.
        width: Characters in the line of a clean check, which is cut; no other line is.
    """
    return "\n".join(line for report in reports for line in _summed(report, width))


def _report(report: Report, width: int) -> str:
    failing, others = _parted(report)
    blocks = [_finding(finding, report, width) for finding in failing]
    if report.verdict is Verdict.INCONCLUSIVE:
        blocks.append(_inconclusive(report, width))
    blocks += [_aside(finding, report, width) for finding in others]
    if report.verdict is Verdict.CLEAN:
        blocks.insert(0, _clean(report, width))
    last = list(_closing(report, width, told=report.verdict is Verdict.CLEAN))
    if last:
        blocks.append("\n".join(last))
    return "\n\n".join(blocks)


def _parted(report: Report) -> tuple[list[Finding], list[Finding]]:
    """The findings that made the verdict, and those told beside it."""
    if report.verdict is not Verdict.LEAK:
        return [], list(report.findings)
    # --ssot-fail-on may let less than a leak fail; then what is found first is what failed.
    open_ = [finding for finding in report.findings if not finding.accepted]
    leaks = [finding for finding in open_ if finding.severity == "leak"] or open_
    return leaks, [finding for finding in report.findings if finding not in leaks]


# -- one finding -------------------------------------------------------------------------------------


def headline(finding: Finding) -> str:
    """Who did what to whom, and in which operation, in a line."""
    victim, offender = finding.victim or "somebody", finding.offender or "somebody else"
    said = {
        "canary": f"{offender} saw what {victim} wrote",
        "noninterference": f"what {victim} sees depends on {_doing(finding)}",
        "integrity": f"{offender} changed or removed what {victim} wrote",
        "availability": f"{victim} is refused or held up because of {offender}",
        "residue": f"something of {victim} stays behind, and {offender} meets it",
    }.get(finding.oracle)
    if said is None or (finding.victim is None and finding.offender is None):
        return finding.title
    return f"{said}, in {finding.operation}" if finding.operation else said


def _doing(finding: Finding) -> str:
    return f"what {finding.offender} does" if finding.offender else "what others do"


def _finding(finding: Finding, report: Report, width: int) -> str:
    lead = f"{finding.severity.upper()}  {finding.oracle}  "
    lines = _filled(lead, printable(headline(finding)), width, INDENT)
    if finding.story is not None and finding.story.lines:
        lines += ["", *table(finding.story, width)]
    elif finding.calls:
        lines += ["", *(f"  {place:>2}  {printable(call)}" for place, call in enumerate(finding.calls))]
    lines.append("")
    lines += _labelled("where", _where(finding), width)
    if finding.story is not None:
        lines += _labelled("users", _users(finding.story), width)
    lines += _labelled("why", readable(_why(finding)), width)
    lines += _labelled("needs", "; ".join(_needs(finding)), width)
    if finding.story is not None:
        lines += _labelled("order", readable("\n".join(finding.story.switches)), width)
    lines += _labelled("shrunk", finding.shrunk, width)
    lines += _labelled("key", printable(finding.name), width)
    if finding.replay:
        lines.append(f"  {'replay':<{LABEL - 2}}{_command(report.test, finding.replay)}")
    return "\n".join(lines)


def _where(finding: Finding) -> str:
    if finding.operation is None:
        return ""
    channel = _PLACES.get(finding.channel, f"the channel {finding.channel!r} of")
    place = (
        f"{channel} {finding.operation}"
        if finding.channel != "result"
        else f"the answer of {finding.operation}"
    )
    return printable(f"{place}, at {finding.path}" if finding.path else place)


def _why(finding: Finding) -> str:
    """The reason, told by steps where the story has both: the secret carried in, and where it came out."""
    if finding.oracle == "canary" and finding.story is not None:
        lines = finding.story.lines
        for shown in lines:
            found = CANARY.search(shown.saw)
            brought = [line for line in lines if found is not None and found[0] in line.call]
            if found is not None and brought and brought[0].number != shown.number:
                return (
                    f"step {shown.number} shows {found[0]}, a secret made up for {finding.victim}, who brought it "
                    f"in at step {brought[0].number}; {finding.offender} may not see what is {finding.victim}'s"
                )
    return "" if headline(finding) == finding.explanation else finding.explanation


def _users(story: Story) -> str:
    """The ids of users that look alike, and what the difference is."""
    told = []
    for one in range(len(story.ids)):
        for other in range(one + 1, len(story.ids)):
            for what, texts in (("user id", story.ids), ("tenant id", story.tenants)):
                if len(texts) <= other or not texts[one] or not texts[other]:
                    continue
                if texts[one] == texts[other] or not (why := difference(texts[one], texts[other])):
                    continue
                told.append(
                    f"{short(story.users[one])} has the {what} {spelled(texts[one])}, "
                    f"{short(story.users[other])} has {spelled(texts[other])}: {why}"
                )
    return "; ".join(told)


def _needs(finding: Finding) -> Iterable[str]:
    if finding.preemptions:
        yield (
            "a switch to another user in the middle of a call"
            if finding.preemptions == 1
            else f"{finding.preemptions} switches between users in the middle of calls"
        )
    if finding.fault:
        yield f"a fault: a call {finding.fault}"


def _command(test: str, replay: str) -> str:
    if not test:
        return f"isolation.replay({replay!r}, ...)"
    return f"pytest {shlex.quote(test)} --ssot-replay={shlex.quote(replay)}"


def _aside(finding: Finding, report: Report, width: int) -> str:
    """A finding that fails nothing, told shortly."""
    lead = f"{finding.severity}  {finding.oracle}  "
    how = f"accepted: {printable(finding.accepted)}" if finding.accepted else "does not fail the test"
    lines = _filled(lead, f"{printable(headline(finding))} ({how})", width, INDENT)
    if headline(finding) != finding.explanation:
        lines += _labelled("why", readable(finding.explanation), width)
    if finding.replay and finding.calls:
        lines.append(f"  {'replay':<{LABEL - 2}}{_command(report.test, finding.replay)}")
    return "\n".join(lines)


# -- the report as a whole ---------------------------------------------------------------------------


def _inconclusive(report: Report, width: int) -> str:
    said = f"{report.subject}: no leak was seen, but too little was seen to call it clean"
    lines = _filled("INCONCLUSIVE  ", said, width, INDENT)
    for reason in report.reasons:
        lines += _filled("  - ", readable(reason), width, "    ")
    return "\n".join(lines)


def _clean(report: Report, width: int) -> str:
    return "\n".join(_filled("CLEAN  ", f"{report.subject}: {_figures(report)}", width, " " * len("CLEAN  ")))


def _figures(report: Report) -> str:
    said = [
        _counted(report.examples, "program"),
        _counted(report.calls, "call"),
        f"{report.seconds:.1f} s",
    ]
    if report.controls:
        said.append(f"{_counted(report.controls, 'owner')} saw an own secret again")
    if report.mutants is not None:
        tried = len(report.mutants.killed) + len(report.mutants.survived)
        said.append(f"{len(report.mutants.killed)} of {_counted(tried, 'weakened guard')} noticed")
    if report.oracles:
        said.append("judged by " + ", ".join(report.oracles))
    if report.seed:
        said.append(f"seed {report.seed}")
    return "; ".join((", ".join(said[:3]), *said[3:]))


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _closing(report: Report, width: int, *, told: bool) -> Iterable[str]:
    if not told:
        yield from _labelled("checked", f"{report.subject}: {_figures(report)}", width)
    if report.mutants is not None:
        yield from _mutants(report.mutants, width)
    for note in report.notes:
        yield from _labelled("note", readable(note), width)


def _mutants(mutants: Mutants, width: int) -> Iterable[str]:
    killed, survived = len(mutants.killed), len(mutants.survived)
    score = f"{killed} of {_counted(killed + survived, 'weakened guard')} noticed ({mutants.score:.0%})"
    yield from _labelled("mutants", score, width)
    for one in mutants.mutants:
        told = f" ({one.reason})" if one.reason else ""
        if one.outcome != KILLED:
            yield from _labelled("", f"{one.outcome}: {printable(one.name)}{printable(told)}", width)


def _summed(report: Report, width: int) -> Iterable[str]:
    name = report.test or report.subject
    failing, others = _parted(report)
    if report.verdict is Verdict.CLEAN:
        yield _cut(f"CLEAN         {name}: {_figures(report)}", width)
    elif report.verdict is Verdict.INCONCLUSIVE:
        yield f"INCONCLUSIVE  {name}: {printable((report.reasons or ('',))[0].partition(chr(10))[0])}"
    for finding in failing:
        yield f"{finding.severity.upper():<12}  {name}: {finding.oracle}: {printable(headline(finding))}"
    for finding in others:
        weight = "accepted" if finding.accepted else finding.severity
        yield f"{weight:<12}  {name}: {finding.oracle}: {printable(headline(finding))}"


# -- text --------------------------------------------------------------------------------------------


def _labelled(label: str, text: str, width: int) -> list[str]:
    return _filled(f"  {label:<{LABEL - 2}}", text, width, " " * LABEL) if text else []


def _filled(lead: str, text: str, width: int, indent: str) -> list[str]:
    """A text in lines behind a lead, whose spaces are kept; each line of its own begins a new one."""
    lines: list[str] = []
    for line in text.split("\n"):
        lines += textwrap.wrap(
            line,
            width,
            initial_indent=indent if lines else lead,
            subsequent_indent=indent,
            break_on_hyphens=False,
            break_long_words=False,
        )
    return lines or [lead.rstrip()]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 3] + "..."
