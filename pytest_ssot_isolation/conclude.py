"""From what a hunt counted and found to one report with a verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Finding, Verdict

if TYPE_CHECKING:
    from pytest_ssot_isolation.engine.ask import Ask
    from pytest_ssot_isolation.engine.search import Hunt
    from pytest_ssot_isolation.model.mutants import Mutants

NEVER_CALLED = "it was never called"

UNEQUAL = (
    "inconclusive for {}: two runs had no equal start. Give world=, a factory that makes the application anew, or "
    "reset="
)


def conclude(
    hunt: Hunt, ask: Ask, *, test: str, seconds: float, eager: bool, replayed: bool = False
) -> Report:
    """Say what one check came to.

    Args:
        hunt: A hunt that has ended.
        ask: What it was asked to do.
        test: Id of the test that asked.
        seconds: What it took.
        eager: Whether the application asked for eager tasks, which were started lazily.
        replayed: Whether one recorded example was run instead of a hunt.
    """
    tally = hunt.tally
    never = [] if replayed else list(_never_succeeded(hunt, ask))
    reasons = [] if replayed else list(_reasons(hunt, ask, never))
    if any(map(ask.fails_by, hunt.findings)):
        verdict = Verdict.LEAK
    elif reasons:
        verdict = Verdict.INCONCLUSIVE
    else:
        verdict = Verdict.CLEAN
    return Report(
        verdict=verdict,
        findings=_sorted(hunt.findings),
        subject=", ".join(cls.__name__ for cls in ask.surfaces),
        test=test,
        examples=tally.examples,
        calls=tally.calls,
        seconds=seconds,
        controls=tally.controls,
        never_called=tuple(name for name, _ in never),
        refused_ids=tuple(tally.refused),
        reasons=tuple(reasons),
        notes=tuple(_notes(hunt, ask, eager, replayed)),
        seed=ask.seed,
        oracles=ask.oracles,
    )


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: (bool(f.accepted), -f.weight, len(f.calls) or 99)))


def _never_succeeded(hunt: Hunt, ask: Ask) -> Iterable[tuple[str, str]]:
    for cls in dict.fromkeys(ask.dealt(ask.users)):
        for name, operation in ask.operations[cls].items():
            key = (cls.__name__, name)
            if not operation.may_fail and not hunt.tally.succeeded[key]:
                yield f"{cls.__name__}.{name}", hunt.tally.first_error.get(key, NEVER_CALLED)


def _reasons(hunt: Hunt, ask: Ask, never: list[tuple[str, str]]) -> Iterable[str]:
    tally = hunt.tally
    if tally.examples and tally.cut_short == tally.examples:
        text = next(iter(tally.troubles), "")
        gave_up = f", and the check was given up after {tally.examples}" if tally.is_hopeless else ""
        yield f"every example was cut short{gave_up}. The first: {text}"
        return
    if not tally.examples:
        yield "no example was run: every id that was drawn was refused at sign-in"
        return
    if not hunt.starts.are_equal and ask.only_compares:
        yield UNEQUAL.format(" and ".join(ask.oracles))
    for name, error in never:
        yield (
            f"{name} never succeeded, so nothing is known of it. Its first error: {error}. Mend the surface, or "
            "declare it with @operation(may_fail=True)"
        )
    if ask.plants and not tally.controls:
        yield (
            "no owner saw an own secret again, so nobody could have seen a foreign one either. Give the surface an "
            "operation that reads back what was written"
        )


def _notes(hunt: Hunt, ask: Ask, eager: bool, replayed: bool) -> Iterable[str]:
    tally = hunt.tally
    if not replayed and not hunt.findings and (early := hunt.budget.ended_early(tally.examples)):
        yield early
    if ask.compares and not ask.only_compares and not hunt.starts.are_equal:
        yield UNEQUAL.format("noninterference, integrity and availability")
    if tally.refused:
        yield f"the application refused these ids at sign-in: {', '.join(tally.refused)}"
    if eager:
        yield "the application asks for eager tasks; they were started lazily, so that each step could be ordered"
    if tally.cut_short and tally.cut_short < tally.examples:
        text = next(iter(tally.troubles), "").partition("\n")[0]
        yield f"{tally.cut_short} of {tally.examples} examples were cut short, the first with: {text}"
    yield from tally.notes
    for name, reason in hunt.bench.silent.items():
        yield f"the oracle {name} had nothing to say: {reason}"


def weakened_verdict(hunt: Hunt, clean: Hunt, ask: Ask) -> tuple[str, str]:
    """Say what the check of a weakened application came to, beside the check of the application itself.

    Args:
        hunt: The hunt in the weakened application.
        clean: The hunt in the application itself.
        ask: What was asked of the former.

    Returns:
        The oracle and the operation that told of a leak, or why the application could not be checked; both
        empty where it could, and nothing was found.
    """
    told = {finding.key for finding in clean.findings}
    for finding in hunt.findings:
        if ask.fails_by(finding) and finding.key not in told:
            return f"{finding.oracle} in {finding.operation}" if finding.operation else finding.oracle, ""
    known = {name for name, _ in _never_succeeded(clean, ask)}
    for name, error in _never_succeeded(hunt, ask):
        if name not in known and error != NEVER_CALLED:
            return "", f"{name} never succeeded any more: {error}"
    return "", ""


def with_mutants(report: Report, mutants: Mutants) -> Report:
    """Add what the weakened guards came to: a clean check that noticed none of them is not called clean."""
    report = replace(report, mutants=mutants, notes=(*report.notes, *_on_mutants(mutants)))
    if mutants.killed:
        return report
    if mutants.survived:
        reason = (
            f"none of the {len(mutants.survived)} guards that were weakened was noticed, so a real leak might not be "
            "either. Let the surface also read and change what others made: observed() ids, keys(), and an operation "
            "that reads back what was written"
        )
    else:
        reason = "mutate= was asked for, and no guard that could be weakened was executed"
    return replace(report, verdict=Verdict.INCONCLUSIVE, reasons=(*report.reasons, reason))


def _on_mutants(mutants: Mutants) -> Iterable[str]:
    for text in mutants.absent:
        yield f"mutate found nothing to weaken: {text}"
