"""One package under audit: reads it once, and answers each question of the audit when it is asked."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_ssot_isolation.audit import definitions, imports, shared_state
from pytest_ssot_isolation.audit.definitions import Canonical, Place
from pytest_ssot_isolation.audit.probe import Imported, Probe
from pytest_ssot_isolation.audit.probe_child import NEEDS
from pytest_ssot_isolation.audit.sources import Source, read_package
from pytest_ssot_isolation.errors import AuditError
from pytest_ssot_isolation.model.verdict import Finding, Severity

_BUDGET = re.compile(r"(?:(?P<name>[\w.]+)(?P<own>\s+own)?\s*[=:]\s*)?(?P<seconds>\d+(?:\.\d+)?)")
_TRIES = (
    3  # Of a measurement over its budget: a busy machine is slow now and then, slow code is so each time.
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How long an import may take.

    Attributes:
        name: A package (all its modules in one interpreter), a module (by itself), or ``each`` module.
        seconds: The bound, in seconds.
        is_own: Whether only the time in the package's own modules counts.
    """

    name: str
    seconds: float
    is_own: bool = False


def read_budgets(lines: Sequence[str], packages: Sequence[str]) -> tuple[Budget, ...]:
    """Read ``ssot_import_budget``: ``NAME = SECONDS``, ``NAME own = SECONDS``, or a number for each package.

    Raises:
        AuditError: A line has another form.
    """
    budgets = []
    for line in lines:
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _BUDGET.fullmatch(text)
        if match is None:
            raise AuditError(
                f"ssot_import_budget has the line {text!r}, which is no budget.\n"
                "To fix this, write `package = 0.5` (all its modules), `package own = 0.15` (without what it "
                "imports), `package.module = 0.05`, or `each = 0.1`, in seconds."
            )
        name = match["name"]
        if name and name != "each" and not any(_is_in(name, package) for package in packages):
            raise AuditError(
                f"ssot_import_budget has a budget for {name!r}, which is in none of the audited packages.\n"
                f"To fix this, correct the name, or add its package to ssot_packages ({', '.join(packages)})."
            )
        for name in [match["name"]] if match["name"] else packages:
            budgets.append(Budget(name=name, seconds=float(match["seconds"]), is_own=bool(match["own"])))
    return tuple(budgets)


class Subject:
    """What the audit asks of the configured packages.

    Args:
        packages: Their dotted names.
        directory: Folder in which results of imports are kept.
        roots: Folders to look in after ``sys.path``.
    """

    def __init__(self, packages: Sequence[str], *, directory: Path, roots: Sequence[Path] = ()) -> None:
        self._packages = tuple(packages)
        self._directory = directory
        self._roots = tuple(roots)
        self._probes: dict[str, Probe] = {}
        self._wholes: dict[str, Imported] = {}

    @cached_property
    def _sources(self) -> dict[str, tuple[Source, ...]]:
        with _without_collector():
            return {name: read_package(name, self._roots) for name in self._packages}

    @cached_property
    def _every_source(self) -> tuple[Source, ...]:
        every = {source.module: source for sources in self._sources.values() for source in sources}
        return tuple(every.values())

    @cached_property
    def _shared(self) -> tuple[Finding, ...]:
        with _without_collector():
            return shared_state.judge(self._every_source)

    def definition(self, canonical: Canonical) -> tuple[Finding, ...]:
        """Hold one canonical name to one definition and one import path."""
        return definitions.judge(canonical, self._every_source)

    def resolves(self, canonical: Sequence[Canonical]) -> tuple[Finding, ...]:
        """Say which canonical names cannot be imported from their places, each in a fresh interpreter."""
        findings = []
        for one in canonical:
            result = self._probe(self._package_of(one.place)).old_place(one.place, one.place)
            if result.error or not result.found:
                text = (
                    f"{one.place} does not resolve: {result.error or f'{one.place.module} has no such name'}"
                )
                findings.append(_finding("imports", str(one.place), "canonical", text))
        return tuple(findings)

    def deprecated(self, old: Place, new: Place) -> tuple[Finding, ...]:
        """Hold a deprecated place to importing, warning and giving the same object."""
        result = self._probe(self._package_of(new)).old_place(old, new)
        if result.error:
            text = f"{old} cannot be taken: {result.error}"
        elif not result.found:
            text = f"{old} is gone: {old.module} imports, and has no {old.name}"
        elif not result.same:
            text = f"{old} is another object than {new}"
        elif not result.warned:
            text = f"{old} gives no DeprecationWarning, so nobody learns that {new} has taken its place"
        else:
            return ()
        return (_finding("definitions", str(old), "deprecated", text),)

    def shared(self, package: str, rule: str) -> tuple[Finding, ...]:
        """Say what users share in one package, by one rule of `shared_state`."""
        return tuple(
            finding
            for finding in self._shared
            if finding.path == rule and finding.operation and _is_in(finding.operation, package)
        )

    def cycles(self, package: str) -> tuple[Finding, ...]:
        """Say which modules import one another in a circle."""
        return imports.judge(package, self._sources[package], self._roots)

    def alone(self, package: str) -> tuple[Finding, ...]:
        """Say which modules cannot be imported alone; those that only lack a package weigh less."""
        findings = [
            _finding("imports", source.module, "syntax", f"{source.module} does not parse: {source.error}")
            for source in self._sources[package]
            if source.error
        ]
        told = {finding.operation for finding in findings}
        for module, result in self._probe(package).alone().items():
            if module not in told and (error := result.errors.get(module)):
                severity = Severity.LOW if error.startswith(NEEDS) else Severity.LEAK
                findings.append(
                    _finding("imports", module, "alone", f"{module} {_verb(error)}{error}", severity)
                )
        return tuple(findings)

    def loaded_twice(self, package: str) -> tuple[Finding, ...]:
        """Say which files come to be several modules, in a fresh interpreter or in this one."""
        twice = {path: set(names) for path, names in self._whole(package).twice.items()}
        for path, names in _twice_here({str(source.path) for source in self._sources[package]}).items():
            twice.setdefault(path, set()).update(names)
        return tuple(
            _finding(
                "definitions",
                min(names),
                "two names",
                f"{Path(path).name} is loaded as {' and as '.join(sorted(names))}: "
                "each of its classes exists once for each name",
            )
            for path, names in sorted(twice.items())
        )

    def over_budget(self, package: str, budget: Budget) -> tuple[tuple[Finding, ...], Mapping[str, float]]:
        """Measure imports against a budget.

        Returns:
            What took longer in each of three tries; and the least seconds of each measured import.
        """
        probe = self._probe(package)
        if budget.name == package:
            measured = {package: _seconds(self._whole(package), budget)}
            modules = {package: sorted(source.module for source in self._sources[package])}
        else:
            wanted = None if budget.name == "each" else [budget.name]
            results = probe.alone(wanted)
            measured = {name: _seconds(one, budget) for name, one in results.items() if not one.errors}
            modules = {name: [name] for name in measured}
            if wanted and not measured:
                error = next(iter(results[budget.name].errors.values()))
                text = f"{budget.name} cannot be imported, so its time cannot be taken: {error}"
                return (_finding("imports", budget.name, "budget", text),), {}
        for _ in range(_TRIES - 1):
            for name in [name for name, seconds in measured.items() if seconds > budget.seconds]:
                measured[name] = min(measured[name], _seconds(probe.again(modules[name]), budget))
        what = "of its own " if budget.is_own else ""
        findings = tuple(
            _finding(
                "imports",
                name,
                "budget",
                f"{name} takes {seconds:.3f} s {what}to import, and its budget is {budget.seconds:g} s",
            )
            for name, seconds in measured.items()
            if seconds > budget.seconds
        )
        return findings, measured

    def _package_of(self, place: Place) -> str:
        return next((name for name in self._packages if _is_in(place.module, name)), self._packages[0])

    def _whole(self, package: str) -> Imported:
        if package not in self._wholes:
            self._wholes[package] = self._probe(package).whole()
        return self._wholes[package]

    def _probe(self, package: str) -> Probe:
        if package not in self._probes:
            self._probes[package] = Probe(
                package,
                self._sources[package],
                kept=self._directory / f"imports-{package}.json",
                path=_paths_of_tests(self._roots),
            )
        return self._probes[package]


def _seconds(imported: Imported, budget: Budget) -> float:
    return imported.own if budget.is_own else imported.seconds


def _verb(error: str) -> str:
    return "" if error.startswith(NEEDS) else "cannot be imported alone: "


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _twice_here(paths: set[str]) -> dict[str, set[str]]:
    """Files loaded as several modules by the tests themselves: a test may import by a name of its own."""
    loaded: dict[str, dict[int, str]] = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and path in paths:
            loaded.setdefault(path, {}).setdefault(id(module), name)
    return {path: set(names.values()) for path, names in loaded.items() if len(names) > 1}


def _paths_of_tests(roots: Sequence[Path]) -> tuple[str, ...]:
    """Folders that this process imports from and a fresh interpreter would not."""
    library = (sys.base_prefix, sys.prefix)
    added = [path for path in sys.path if path and not path.startswith(library)]
    return tuple(dict.fromkeys([*added, *map(str, roots)]))


@contextmanager
def _without_collector() -> Iterator[None]:
    """Trees are many small objects that all stay: looking through them for garbage takes half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _finding(oracle: str, name: str, path: str, text: str, severity: Severity = Severity.LEAK) -> Finding:
    return Finding(
        oracle=oracle, severity=severity.label, operation=name, channel="source", path=path, explanation=text
    )
