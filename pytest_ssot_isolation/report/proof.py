"""The stability proof as Markdown: claims, how they stand after one run, and what stands behind each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pytest_ssot_isolation.report import evidence as standings
from pytest_ssot_isolation.report.claims import AREAS, COMPLIANCE, READINESS, Claims
from pytest_ssot_isolation.report.evidence import Evidence, Judged, Outcome, Standing

_TIMES = re.compile(
    r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?(?: ?(?:UTC|Z|[+-]\d\d:?\d\d))?|\b\d[\d.,]* (?:ns|µs|ms|s|seconds)\b"
)
_MEANING = {
    Standing.PROVED: "tests that could fail stand behind the claim, and none that ran did; at least one passed.",
    Standing.REFUTED: "a test behind it failed, passed only on a second try, or measured more than its budget.",
    Standing.NOT_SHOWN: "nothing that ran speaks for it: no test, or only such as were skipped or could say nothing.",
    Standing.NOT_APPLICABLE: "it needs what this run lacks, and the reason is given.",
}
_PLURAL = {"isolation": "isolation", "ssot": "SSOT"}


def render(claims: Claims, evidence: Sequence[Evidence], facts: Mapping[str, str]) -> str:
    """Write the proof.

    A claim is PROVED only where tests that are marked as proving it passed in this run. The
    same evidence gives the same text; of two runs with one seed only times differ, and each
    time is a number, a space and a unit, or a date (see `without_times`).

    Args:
        claims: What is claimed, and the sections.
        evidence: The tests that name claims or controls, in any order.
        facts: What this run was, such as versions and the seed, in the order to show.

    Returns:
        The document, in Markdown.
    """
    ordered = sorted(evidence, key=lambda one: one.test)
    judged = [standings.judge(claim, ordered) for claim in claims.claims]
    lines = ["# Stability proof", "", *_summary(judged), "", *_facts(facts)]
    for number, title in claims.sections.items():
        lines += ["", f"## {number} {title}", ""]
        if number == READINESS:
            lines += _readiness(judged)
        elif number == COMPLIANCE:
            lines += _compliance(judged, ordered)
        else:
            lines += _section([one for one in judged if one.claim.section == number])
    known = {claim.name for claim in claims.claims}
    if strangers := sorted({name for one in ordered for name in one.claims if name not in known}):
        lines += [
            "",
            "## Claims that no section has",
            "",
            "Tests name them, and neither the shipped claims nor `ssot_claims` do; they count nowhere.",
            "",
            *(f"- `{name}`" for name in strangers),
        ]
    return "\n".join(lines) + "\n"


def without_times(text: str) -> str:
    """Put ``…`` for every time and date, so that two proofs can be compared."""
    return _TIMES.sub("…", text)


def _summary(judged: Sequence[Judged]) -> list[str]:
    counts = _counts(judged)
    parts = [f"{counts[standing]} {standing.value}" for standing in Standing if counts[standing]]
    lines = [f"Of {len(judged)} claims: {', '.join(parts) or 'none'}.", ""]
    return [*lines, *(f"- {standing.value}: {words}" for standing, words in _MEANING.items())]


def _facts(facts: Mapping[str, str]) -> list[str]:
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items()]
    return ["| this run | |", "| --- | --- |", *rows]


def _section(judged: Sequence[Judged]) -> list[str]:
    if not judged:
        return ["No claims."]
    lines = ["| claim | | tests |", "| --- | --- | --- |"]
    for one in judged:
        passed = sum(test.outcome is Outcome.PASSED for test in one.evidence)
        tests = f"{passed} of {len(one.evidence)} passed" if one.evidence else "none"
        lines.append(f"| {_cell(one.claim.text)} (`{one.claim.name}`) | **{one.standing.value}** | {tests} |")
    for one in judged:
        if one.standing is not Standing.PROVED:
            lines += ["", f"`{one.claim.name}` is {one.standing.value}:", ""]
            lines += [f"- {_line(reason)}" for reason in one.reasons]
    lines += _figures(judged)
    facts = sorted(
        {
            (test.test, name, value)
            for one in judged
            for test in one.evidence
            for name, value in (test.facts or {}).items()
        }
    )
    if facts:
        lines += ["", "| measured | | by |", "| --- | --- | --- |"]
        lines += [f"| {_cell(name)} | {_cell(value)} | `{_cell(test)}` |" for test, name, value in facts]
    if proving := [one for one in judged if one.evidence]:
        lines += ["", "<details><summary>Tests</summary>", ""]
        for one in proving:
            lines += [f"- `{one.claim.name}`"]
            lines += [f"  - {test.outcome.value}: `{test.test}`" for test in one.evidence]
        lines += ["", "</details>"]
    return lines


def _figures(judged: Sequence[Judged]) -> list[str]:
    rows = []
    for one in judged:
        figures = [figure for test in one.evidence for figure in test.figures]
        for figure in sorted(figures, key=lambda figure: (figure.users or 0, figure.name)):
            bar = standings.bar_for(one.claim, figure)
            budget = (
                ", ".join(
                    f"{what} {standings.seconds(bound)}"
                    for what, bound in (("mean", bar.mean), ("median", bar.median), ("max", bar.max))
                    if bound is not None
                )
                if bar
                else "none set"
            )
            state = (
                "no budget"
                if bar is None
                else "over"
                if standings.over_budget(one.claim, figure)
                else "within"
            )
            known = bar.before if bar is not None and bar.before is not None else one.claim.before
            before = standings.seconds(known) if known is not None else ""
            times = " | ".join(standings.seconds(value) for value in (figure.mean, figure.median, figure.max))
            users = "" if figure.users is None else f"{figure.users:,}"
            rows.append(f"| {_cell(figure.name)} | {users} | {times} | {budget} | {before} | {state} |")
    if not rows:
        return []
    heads = ("benchmark", "users", "mean", "median", "max", "budget", "before", "status")
    told = "A figure is held to the budget that is named, as a mean, a median or a max; the other figures stand beside."
    return ["", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|", *rows, "", told]


def _readiness(judged: Sequence[Judged]) -> list[str]:
    lines = [
        "Counts of the claims above, and nothing else.",
        "",
        "| area | claims | proved | refuted | not shown | not applicable here | proved of those applicable |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups = [(_PLURAL.get(area, area), [one for one in judged if one.claim.area == area]) for area in AREAS]
    for name, group in [*groups, ("all", list(judged))]:
        counts = _counts(group)
        applicable = len(group) - counts[Standing.NOT_APPLICABLE]
        share = f"{100 * counts[Standing.PROVED] // applicable} %" if applicable else "-"
        numbers = " | ".join(str(counts[standing]) for standing in Standing)
        lines.append(f"| {name} | {len(group)} | {numbers} | {share} |")
    return lines


def _compliance(judged: Sequence[Judged], evidence: Sequence[Evidence]) -> list[str]:
    behind: dict[str, dict[str, Evidence]] = {}
    for one in evidence:
        for control in one.controls:
            behind.setdefault(control, {})[one.test] = one
    for each in judged:
        for control in each.claim.controls:
            behind.setdefault(control, {}).update({one.test: one for one in each.evidence})
    lines = [
        "Evidence for an auditor, who alone can say whether a control is met. It was gathered in the run whose facts "
        "head this document."
    ]
    if not behind:
        return [
            *lines,
            "",
            'No test names a control: `@pytest.mark.proves("...", controls=("SOC2:CC6.1",))`.',
        ]
    for control in sorted(behind):
        tests = [behind[control][name] for name in sorted(behind[control])]
        lines += ["", f"### {_line(control)}", "", _outcomes(tests), ""]
        if not tests:
            continue
        lines += ["| test | outcome | claims |", "| --- | --- | --- |"]
        for one in tests:
            names = ", ".join(f"`{name}`" for name in one.claims)
            lines.append(f"| `{_cell(one.test)}` | {one.outcome.value} | {names} |")
        told = [f"- `{one.test}`: {_line(text)}" for one in tests for text in _told(one)]
        if told:
            lines += ["", *told]
    return lines


def _outcomes(tests: Sequence[Evidence]) -> str:
    if not tests:
        return "No test behind it ran."
    counts = {outcome: sum(one.outcome is outcome for one in tests) for outcome in Outcome}
    how = ", ".join(f"{count} {outcome.value}" for outcome, count in counts.items() if count)
    found = sum(len(one.findings) for one in tests)
    return f"Tests: {how}. Findings: {found or 'none'}."


def _told(one: Evidence) -> Iterator[str]:
    if one.outcome is not Outcome.PASSED:
        yield from one.findings or (one.reason,)


def _counts(judged: Sequence[Judged]) -> dict[Standing, int]:
    return {standing: sum(one.standing is standing for one in judged) for standing in Standing}


def _line(text: str) -> str:
    """One line of running text, in which nothing opens a tag."""
    return " ".join(text.split()).replace("<", "&lt;")


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")
