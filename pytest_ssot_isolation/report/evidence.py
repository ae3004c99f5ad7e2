"""What stands behind each claim: outcomes of tests, their findings and figures; and the verdict from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pytest_ssot_isolation.report.claims import Bar, Claim


class Outcome(Enum):
    """How a test ended, as far as a proof cares."""

    PASSED = "passed"
    FAILED = "failed"
    FLAKY = "flaky"
    SKIPPED = "skipped"
    UNCLEAR = "unclear"


class Standing(Enum):
    """How a claim stands after a run."""

    PROVED = "PROVED"
    REFUTED = "REFUTED"
    NOT_SHOWN = "NOT SHOWN"
    NOT_APPLICABLE = "NOT APPLICABLE HERE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a benchmark measured, in seconds.

    Attributes:
        name: The benchmark.
        users: How many users it was for; None if it does not say.
        mean: The mean of a round.
        median: The median of a round.
        max: The longest round.
    """

    name: str
    users: int | None
    mean: float
    median: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One test that names claims or controls, and how it ended.

    Attributes:
        test: Its id.
        claims: The claims that it covers.
        controls: The controls that it names.
        outcome: How it ended.
        reason: Why, in a line; empty where it passed.
        findings: What was found, a sentence each.
        figures: What it measured.
        facts: Further figures, such as times of imports.
    """

    test: str
    claims: tuple[str, ...]
    controls: tuple[str, ...] = ()
    outcome: Outcome = Outcome.PASSED
    reason: str = ""
    findings: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    facts: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A claim, how it stands, and why.

    Attributes:
        claim: The claim.
        standing: How it stands.
        reasons: What refutes it, or what is missing, a sentence each.
        evidence: The tests that cover it.
    """

    claim: Claim
    standing: Standing
    reasons: tuple[str, ...]
    evidence: tuple[Evidence, ...]


def judge(claim: Claim, evidence: Sequence[Evidence]) -> Judged:
    """Say how a claim stands.

    One test that failed, that passed only on a later try, or that measured more than its
    budget refutes it. Only tests that passed prove it: none, or one that was skipped or could
    say nothing, leaves it not shown.
    """
    own = tuple(sorted((one for one in evidence if claim.name in one.claims), key=lambda one: one.test))
    passed = [one for one in own if one.outcome is Outcome.PASSED]
    skipped = [f"{one.test} was skipped: {one.reason}" for one in own if one.outcome is Outcome.SKIPPED]
    if refuting := _refuting(claim, own):
        return Judged(claim=claim, standing=Standing.REFUTED, reasons=refuting, evidence=own)
    if claim.needs and skipped and len(skipped) == len(own):
        reasons = (f"it needs {claim.needs}", *skipped)
        return Judged(claim=claim, standing=Standing.NOT_APPLICABLE, reasons=reasons, evidence=own)
    missing = [f"{one.test} could say nothing: {one.reason}" for one in own if one.outcome is Outcome.UNCLEAR]
    if not own:
        missing.append("no test that ran is marked as proving it")
    if passed and claim.is_measured:
        figures = [figure for one in passed for figure in one.figures]
        if not figures:
            missing.append("nothing was measured: its tests use no benchmark, or benchmarks are switched off")
        elif not any(bar_for(claim, figure) for figure in figures):
            missing.append("it was measured, and no budget is set to hold it to (`budgets` in ssot_claims)")
    # A skipped test proves nothing, and takes nothing from what another one has shown.
    standing = Standing.PROVED if passed and not missing else Standing.NOT_SHOWN
    return Judged(claim=claim, standing=standing, reasons=(*missing, *skipped), evidence=own)


def _refuting(claim: Claim, evidence: Sequence[Evidence]) -> tuple[str, ...]:
    reasons: list[str] = []
    for one in evidence:
        if one.outcome is Outcome.FAILED:
            reasons += [f"{one.test}: {finding}" for finding in one.findings or (one.reason,)]
        elif one.outcome is Outcome.FLAKY:
            reasons.append(f"{one.test}: it passed only after it had failed")
        for figure in one.figures:
            reasons += over_budget(claim, figure)
    return tuple(reasons)


def bar_for(claim: Claim, figure: Figure) -> Bar | None:
    """The bar of a claim that a figure is held to: the one for its number of users, else the one for any."""
    exact = [bar for bar in claim.bars if bar.users is not None and bar.users == figure.users]
    return next(iter(exact + [bar for bar in claim.bars if bar.users is None]), None)


def over_budget(claim: Claim, figure: Figure) -> list[str]:
    """Say where a figure is over its bar, a sentence for each."""
    bar = bar_for(claim, figure)
    if bar is None:
        return []
    pairs = (
        ("mean", figure.mean, bar.mean),
        ("median", figure.median, bar.median),
        ("max", figure.max, bar.max),
    )
    return [
        f"{figure.name}: {what} {seconds(value)}, budget {seconds(bound)}"
        for what, value, bound in pairs
        if bound is not None and value > bound
    ]


def seconds(value: float) -> str:
    """A time as people read it, always a number, a space and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            number = value / size
            return f"{number:.3g} {unit}" if number < 999.5 else f"{number:.0f} {unit}"
    return f"{value / 1e-9:.3g} ns"
