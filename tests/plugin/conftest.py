"""A project of its own for each test, run in a process of its own, as strict as a careful reader's."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

STRICT = """
[pytest]
addopts = --strict-markers --strict-config
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""


class Project:
    """A folder with tests in it.

    Attributes:
        pytester: Pytest's own tool for it.
    """

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self._monkeypatch = monkeypatch
        self._ini = STRICT

    def ini(self, **values: str) -> Project:
        self._ini += "".join(f"{name} = {value}\n" for name, value in values.items())
        return self

    def environment(self, values: Mapping[str, str]) -> Project:
        for name, value in values.items():
            self._monkeypatch.setenv(name, value)
        return self

    def test(self, source: str) -> Project:
        self.pytester.makepyfile(test_it=source)
        return self

    def conftest(self, source: str) -> Project:
        self.pytester.makeconftest(source)
        return self

    def file(self, name: str, text: str) -> Project:
        path = self.pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return self

    def run(self, *arguments: str, plugin: str = "ssot_isolation") -> pytest.RunResult:
        self.pytester.makeini(self._ini)
        loading = ("-p", plugin) if plugin else ()
        return self.pytester.runpytest_subprocess(*loading, "-p", "no:cacheprovider", *arguments)

    def run_alone(self, *arguments: str) -> pytest.RunResult:
        """Run with pytest, our plugin and nothing else."""
        self.environment({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
        self._ini = self._ini.replace("asyncio_default_fixture_loop_scope = function\n", "")
        return self.run(*arguments)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("CI", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
    return Project(pytester, monkeypatch)


SEEN_FACTS = """
    from types import SimpleNamespace
    from pytest_ssot_isolation import harness
    harness.Isolation = lambda **facts: SimpleNamespace(**facts)
"""


@pytest.fixture
def open_project(project: Project) -> Project:
    """A project whose `isolation` fixture shows what the plugin hands to the harness."""
    return project.conftest(SEEN_FACTS)
