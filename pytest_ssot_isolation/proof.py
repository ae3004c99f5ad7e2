"""Gathers what the proof needs while tests run, also from xdist's workers, and writes it at the end."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_ssot_isolation import options
from pytest_ssot_isolation.errors import InconclusiveCheck, IsolationError

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.report import Report
    from pytest_ssot_isolation.report.evidence import Evidence

_CARRIED: Final = "ssot_proves"
_FAILED: Final = pytest.StashKey[bool]()
"""On an item that failed before: a plugin that runs it again may never report that try."""

_VERSIONS: Final = ("pytest-ssot-isolation", "pytest", "hypothesis", "asyncpg", "clickhouse-connect")


def attach(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Put on a test's report what the proof wants to know of it; there it reaches the controller of xdist too."""
    markers = list(item.iter_markers("proves"))
    if not markers:
        return
    controls = [one for marker in markers for one in _tuple(marker.kwargs.get("controls", ()))]
    carried: dict[str, Any] = {
        "claims": sorted({str(one) for marker in markers for one in marker.args}),
        "controls": sorted(set(controls)),
        "is_inconclusive": call.excinfo is not None and call.excinfo.errisinstance(InconclusiveCheck),
        "reason": call.excinfo.exconly().splitlines()[0] if call.excinfo is not None else "",
        "failed_before": item.stash.get(_FAILED, False),
    }
    if report.failed and report.when != "teardown":
        item.stash[_FAILED] = True
    benchmark: Any = getattr(item, "funcargs", {}).get("benchmark")
    measured = getattr(benchmark, "stats", None)
    if report.when == "call" and measured:
        users = getattr(benchmark, "extra_info", {}).get("users") or (benchmark.params or {}).get("users")
        carried["figure"] = {
            "name": benchmark.name,
            "users": users if isinstance(users, int) else None,
            **{what: float(getattr(measured.stats, what)) for what in ("mean", "median", "max")},
        }
    vars(report)[_CARRIED] = carried


class ProofWriter:
    """Sees each report of the run in the process that writes the proof, and writes it at the end.

    Args:
        config: The run's configuration.
        paths: Where the proof goes.

    Raises:
        pytest.UsageError: The file of claims cannot be used.
    """

    def __init__(self, config: pytest.Config, paths: Sequence[Path]) -> None:
        from pytest_ssot_isolation.report.claims import read_claims

        self._config = config
        self._paths = tuple(paths)
        self._seen: dict[str, list[pytest.TestReport]] = {}
        self._uncollected: set[str] = set()
        self._settings = config.stash[options.SETTINGS]
        try:
            self._claims = read_claims(self._settings.claims)
        except IsolationError as problem:
            raise pytest.UsageError(str(problem)) from None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a phase of a test came to."""
        if hasattr(report, _CARRIED):
            self._seen.setdefault(report.nodeid, []).append(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember what could not be collected: tests in there may have had something to say."""
        if report.failed:
            self._uncollected.add(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the proof, when everybody else has said what they have."""
        from pytest_ssot_isolation.report import proof

        reports: dict[str, list[Report]] = {}
        for one in self._config.stash[options.REPORT]:
            reports.setdefault(one.test, []).append(one)
        evidence = [_evidence(test, seen, reports.get(test, ())) for test, seen in sorted(self._seen.items())]
        text = proof.render(self._claims, evidence, self._facts(session))
        for path in self._paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def _facts(self, session: pytest.Session) -> dict[str, str]:
        facts = {
            "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
            "commit": _commit(self._config.rootpath),
            "seed": f"{self._settings.seed}",
            "profile": self._settings.profile,
            "tests": _selection(self._config),
        }
        if self._uncollected:
            facts["not collected"] = "; ".join(sorted(self._uncollected))
        if stopped := session.shouldfail or session.shouldstop:
            facts["ended early"] = str(stopped)
        servers: dict[str, None] = self._config.stash[options.SERVERS]
        for one in sorted(servers):
            engine, _, way = one.partition(" ")
            facts[f"server: {engine}" if f"server: {engine}" not in facts else f"server: {one}"] = way
        if not servers:
            facts["servers"] = "none was asked for"
        facts["python"] = f"{platform.python_version()} ({platform.system()}, {platform.machine()})"
        for name in _VERSIONS:
            try:
                facts[name] = version(name)
            except PackageNotFoundError:
                continue
        return facts


def _evidence(test: str, seen: Sequence[pytest.TestReport], reports: Sequence[Report]) -> Evidence:
    from pytest_ssot_isolation.report.evidence import Evidence, Figure, Outcome

    outcome, reason = _outcome(seen)
    carried = [getattr(one, _CARRIED) for one in seen]
    findings = [finding for one in reports for finding in one.findings]
    heavy = [finding for finding in findings if finding.severity == "leak"] or findings
    return Evidence(
        test=test,
        claims=tuple(sorted({name for one in carried for name in one["claims"]})),
        controls=tuple(sorted({name for one in carried for name in one["controls"]})),
        outcome=Outcome(outcome),
        reason=reason,
        findings=tuple(dict.fromkeys(one.explanation for one in heavy)) if outcome == "failed" else (),
        figures=tuple(Figure(**one["figure"]) for one in carried if "figure" in one),
        facts=_facts_of(test, seen, reports),
    )


def _facts_of(test: str, seen: Sequence[pytest.TestReport], reports: Sequence[Report]) -> dict[str, str]:
    """Further figures of one test: what the audit measured, and which weakened guards the checks noticed."""
    facts = {name: str(value) for name, value in seen[-1].user_properties if test.startswith("ssot::")}
    weakened = [one.mutants for one in reports if one.mutants is not None]
    if weakened:
        killed = [name for one in weakened for name in one.killed]
        survived = [name for one in weakened for name in one.survived]
        facts["weakened guards noticed"] = f"{len(killed)} of {len(killed) + len(survived)}"
        if survived:
            facts["weakened guards not noticed"] = "; ".join(survived)
    return facts


def _outcome(seen: Sequence[pytest.TestReport]) -> tuple[str, str]:
    """How a test ended over all its phases and tries, and why."""
    failed = [one for one in seen if one.outcome not in ("passed", "skipped")]  # a plugin's "rerun" as well
    calls = [one for one in seen if one.when == "call"]
    last = calls[-1] if calls else seen[-1]
    if last.when == "call" and last.passed and getattr(last, _CARRIED)["failed_before"]:
        return "flaky", "it passed only after it had failed"
    if failed:
        worst = failed[-1]
        carried = getattr(worst, _CARRIED)
        if calls and calls[-1].passed and worst.when != "teardown":
            return "flaky", carried["reason"]
        # A strict xfail that passes fails without an exception.
        reason = carried["reason"] or str(worst.longrepr or "")
        if worst.when == "setup" or carried["is_inconclusive"]:
            return "unclear", reason
        return "failed", reason
    skipped = [one for one in seen if one.skipped]
    if skipped:
        if hasattr(skipped[0], "wasxfail"):
            return "failed", f"it is expected to fail, and does: {skipped[0].wasxfail}"
        longrepr = skipped[0].longrepr
        text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
        return "skipped", text.removeprefix("Skipped: ")
    if hasattr(last, "wasxfail"):
        return "unclear", "it is expected to fail, and passed"
    return "passed", ""


def _selection(config: pytest.Config) -> str:
    """Which tests were asked for: a proof from some of them must not look like one from all."""
    option = config.option
    parts = [f"{flag} {value}" for flag, value in (("-k", option.keyword), ("-m", option.markexpr)) if value]
    parts += [f"--deselect {one}" for one in option.deselect or ()]
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        folder = config.invocation_params.dir
        parts += [one for one in config.args if not config.rootpath.is_relative_to((folder / one).resolve())]
    return f"only those of: {' '.join(parts)}" if parts else "all that were found"


def _commit(folder: Path) -> str:
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() if found.returncode == 0 else "not under version control"


def _tuple(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(str(one) for one in value)
