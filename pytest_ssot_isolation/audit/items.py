"""The source audit as pytest items, each one sentence that holds or does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ssot_isolation.audit import shared_state
from pytest_ssot_isolation.audit.definitions import read_canonical
from pytest_ssot_isolation.audit.subject import Budget, Subject, read_budgets
from pytest_ssot_isolation.errors import AuditError
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Finding, Severity, Verdict

if TYPE_CHECKING:
    from typing import Self

Answer = tuple[tuple[Finding, ...], Mapping[str, str]]
"""What an item found, and figures to go with it."""

_STATE = {
    shared_state.MODULE: "keeps nothing of a user in the state of its modules",
    shared_state.CLASS: "keeps nothing of a user in the state of its classes",
    shared_state.DEFAULT: "keeps nothing of a user in default arguments",
    shared_state.CACHE: "keeps nothing of a user in the caches of its functions",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One item of the audit.

    Attributes:
        sentence: What holds if nothing is found.
        claim: The claim of the proof that it stands for.
        ask: Finds out.
    """

    sentence: str
    claim: str
    ask: Callable[[], Answer]


class AuditFailed(Exception):
    """A sentence of the audit does not hold."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(finding.explanation for finding in findings))


class AuditCollector(pytest.Collector):
    """The parent of all items of the audit."""

    def collect(self) -> list[pytest.Item]:
        """Return nothing: its items are made from the settings, see `collect`."""
        return []


class AuditItem(pytest.Item):
    """One sentence of the audit."""

    def __init__(
        self, *, question: Question, fail_on: Severity, reports: pytest.StashKey[list[Report]], **more: Any
    ) -> None:
        super().__init__(**more)
        self._question = question
        self._fail_on = fail_on
        self._reports = reports
        self.add_marker(pytest.mark.ssot)
        self.add_marker(pytest.mark.proves(question.claim))

    @classmethod
    def from_parent(cls, parent: Any, **more: Any) -> Self:
        """Make an item; pytest's own way to do so."""
        return super().from_parent(parent, **more)

    def runtest(self) -> None:
        """Ask, hand over what was found, and fail if something of weight was."""
        started = time.perf_counter()
        findings, figures = self._question.ask()
        heavy = [one for one in findings if one.weight >= self._fail_on]
        light = [one for one in findings if one not in heavy]
        # Each figure goes with the test's own report, as a property: into JUnit's file, and into the proof.
        self.user_properties += figures.items()
        if findings:
            report = Report(
                verdict=Verdict.LEAK if heavy else Verdict.CLEAN,
                findings=tuple(findings),
                subject=self._question.sentence,
                test=self.nodeid,
                seconds=time.perf_counter() - started,
                oracles=tuple(sorted({one.oracle for one in findings})),
            )
            self.stash.setdefault(self._reports, []).append(report)
        if light:
            told = "\n".join(f"{one.severity}: {one.explanation}" for one in light)
            self.add_report_section("call", "ssot audit", told)
        if heavy:
            raise AuditFailed(heavy)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the sentence and what speaks against it, and no traceback of ours."""
        if isinstance(excinfo.value, AuditFailed):
            lines = [f"  - {finding.explanation}" for finding in excinfo.value.findings]
            return "\n".join([f"It does not hold that {self._question.sentence}:", *lines])
        if isinstance(excinfo.value, AuditError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Name the item by its sentence."""
        return self.path, None, self._question.sentence


def collect(
    session: pytest.Session,
    *,
    packages: Sequence[str],
    canonical: Sequence[str],
    import_budget: Sequence[str],
    directory: Path,
    fail_on: str,
    reports: pytest.StashKey[list[Report]],
) -> list[pytest.Item]:
    """Make the items of the audit. Nothing is read before the first of them runs.

    Args:
        session: Their session.
        packages: Dotted names of the packages to read.
        canonical: Lines ``package.module:Name <- old.module:Name``.
        import_budget: Lines ``package = seconds``.
        directory: Folder in which results of imports are kept.
        fail_on: The least severity that fails an item: ``"leak"``, ``"low"`` or ``"hint"``.
        reports: Where in an item's stash its report goes.

    Raises:
        pytest.UsageError: The configuration cannot be carried out.
    """
    root = session.config.rootpath
    parent = AuditCollector.from_parent(session, name="ssot", nodeid="ssot", path=root)
    try:
        if not packages:
            raise AuditError(
                "--ssot asks for the source audit, and no package is named to audit.\n"
                "To fix this, name it in the ini file: ssot_packages = my_package"
            )
        subject = Subject(packages, directory=directory, roots=(root, root / "src"))
        questions = list(_questions(subject, packages, canonical, read_budgets(import_budget, packages)))
    except AuditError as problem:
        raise pytest.UsageError(str(problem)) from None
    severity = Severity.of(fail_on)
    return [
        AuditItem.from_parent(
            parent,
            name=question.sentence,
            nodeid=f"ssot::{question.sentence}",
            question=question,
            fail_on=severity,
            reports=reports,
        )
        for question in questions
    ]


def _questions(
    subject: Subject, packages: Sequence[str], canonical: Sequence[str], budgets: Sequence[Budget]
) -> Iterator[Question]:
    def question(sentence: str, claim: str, ask: Callable[..., tuple[Finding, ...]], *given: Any) -> Question:
        return Question(sentence=sentence, claim=claim, ask=lambda: (ask(*given), {}))

    names = read_canonical(canonical)
    if names:
        sentence = "every canonical name can be imported from its place"
        yield question(sentence, "startup.canonical-imports", subject.resolves, names)
    for one in names:
        sentence = f"{one.place} has one definition and one import path"
        yield question(sentence, "ssot.single-definition", subject.definition, one)
        for old in one.deprecated:
            sentence = f"{old} still imports, warns, and gives the same object as {one.place}"
            yield question(sentence, "ssot.deprecated-paths", subject.deprecated, old, one.place)
    for package in packages:
        for rule, words in _STATE.items():
            yield question(f"{package} {words}", "ssot.no-shared-state", subject.shared, package, rule)
        sentence = f"{package} loads no class under two module names"
        yield question(sentence, "ssot.one-module-name", subject.loaded_twice, package)
        yield question(f"{package} has no import cycle", "startup.no-cycles", subject.cycles, package)
        sentence = f"{package} has only modules that import alone in a fresh interpreter"
        yield question(sentence, "startup.import-alone", subject.alone, package)
    for budget in budgets:
        for package in packages:
            if budget.name == "each" or budget.name == package or budget.name.startswith(f"{package}."):
                yield Question(
                    sentence=_budget_sentence(package, budget),
                    claim="startup.import-time",
                    ask=lambda package=package, budget=budget: _measured(subject, package, budget),  # type: ignore[misc]
                )


def _budget_sentence(package: str, budget: Budget) -> str:
    what = "of its own time" if budget.is_own else "in all"
    if budget.name == package:
        return f"{package} with all its modules imports within {budget.seconds:g} s {what}"
    if budget.name == "each":
        return f"each module of {package} alone imports within {budget.seconds:g} s {what}"
    return f"{budget.name} alone imports within {budget.seconds:g} s {what}"


def _measured(subject: Subject, package: str, budget: Budget) -> Answer:
    findings, seconds = subject.over_budget(package, budget)
    longest = sorted(seconds.items(), key=lambda one: -one[1])[:5]
    return findings, {
        f"import of {name}": f"{value:.3f} s of {budget.seconds:g} s" for name, value in longest
    }
