"""What the tests of a run found, gathered in the process that tells it: the controller under xdist."""

from __future__ import annotations

import pytest

from pytest_ssot_isolation import options


class Gatherer:
    """A plugin that keeps the reports and the lines on servers that come with test reports, and tells them."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        stash = self.config.stash
        stash[options.SERVERS] |= dict.fromkeys(getattr(report, "ssot_servers", ()))
        if found := getattr(report, "ssot_reports", None):
            import json

            from pytest_ssot_isolation.model.report import Report

            for text in found:
                checked = Report.from_plain(json.loads(text))
                stash[options.REPORT].append(checked)
                for finding in checked.findings:
                    self.config.hook.pytest_ssot_finding(finding=finding, report=checked, config=self.config)

    def pytest_sessionfinish(self) -> None:
        if paths := self.config.stash[options.SETTINGS].report:
            from pytest_ssot_isolation.report import json_document

            reports = self.config.stash[options.REPORT]
            for path in (path for path in paths if path.suffix == ".json"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json_document.render(reports), encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        stash = self.config.stash
        reports = stash[options.REPORT]
        if reports:
            from pytest_ssot_isolation.report import terminal

            terminalreporter.section("isolation")
            terminalreporter.write_line(terminal.summary(reports))
        if (known := stash.get(options.KNOWN, None)) is not None:
            for line in known.unused(reports):
                terminalreporter.write_line(f"ssot-isolation: {line}")
        for line in stash[options.SERVERS]:
            terminalreporter.write_line(f"ssot-isolation: {line}")
