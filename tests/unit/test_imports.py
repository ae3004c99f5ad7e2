"""Import cycles, and imports in fresh interpreters."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from pytest_ssot_isolation.audit.definitions import Place
from pytest_ssot_isolation.audit.imports import cycles
from pytest_ssot_isolation.audit.probe import Probe
from pytest_ssot_isolation.audit.sources import Source, read_package
from pytest_ssot_isolation.audit.subject import Budget, Subject, read_budgets
from pytest_ssot_isolation.errors import AuditError

Package = Callable[..., tuple[Source, ...]]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Write the modules of a package of the test's own name, which nothing has imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def package(**modules: str) -> tuple[Source, ...]:
        folder = tmp_path / "fresh_app"
        folder.mkdir(exist_ok=True)
        for name, text in {"__init__": "", **modules}.items():
            (folder / f"{name}.py").write_text(dedent(text))
        return read_package("fresh_app")

    return package


def probe(folder: Path, sources: tuple[Source, ...], kept: Path | None = None) -> Probe:
    return Probe("fresh_app", sources, kept=kept, path=[str(folder)])


def test_modules_that_import_one_another_are_a_cycle(package: Package) -> None:
    sources = package(
        a="from fresh_app import b", b="import fresh_app.c", c="from .a import x", d="from . import a"
    )

    assert cycles("fresh_app", sources) == (("fresh_app.a", "fresh_app.b", "fresh_app.c"),)


@pytest.mark.parametrize(
    "broken",
    [
        "def f():\n    from fresh_app import a\n    return a",
        "class C:\n    async def f(self):\n        import fresh_app.a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fresh_app.a import x",
        "if __name__ == '__main__':\n    import fresh_app.a\n    fresh_app.a.main()",
    ],
    ids=["in a function", "in a method", "for types only", "where it is run as a program"],
)
def test_a_cycle_that_is_broken_is_none(package: Package, broken: str) -> None:
    assert cycles("fresh_app", package(a="import fresh_app.b", b=broken)) == ()


def test_a_cycle_counts_where_the_same_import_stands_late_as_well(package: Package) -> None:
    both = "import fresh_app.a\ndef f():\n    import fresh_app.a"

    assert cycles("fresh_app", package(a="import fresh_app.b", b=both)) == (("fresh_app.a", "fresh_app.b"),)


def test_what_a_module_does_when_it_is_imported_counts_as_ever(package: Package) -> None:
    imported = "if __name__ != '__main__':\n    import fresh_app.a"

    assert cycles("fresh_app", package(a="import fresh_app.b", b=imported)) != ()


def test_each_module_is_imported_alone_and_never_in_this_process(package: Package, tmp_path: Path) -> None:
    sources = package(
        good="import json",
        needs_order="import sys\nassert 'fresh_app.good' in sys.modules, 'import good first'",
        needs_package="import no_such_package_at_all",
        leaves="raise SystemExit(3)",
    )

    results = probe(tmp_path, sources).alone()

    errors = {name.rpartition(".")[2]: one.errors.get(name, "") for name, one in results.items()}
    assert errors == {
        "fresh_app": "",
        "good": "",
        "needs_order": "AssertionError: import good first (needs_order.py:2)",
        "needs_package": "needs a package that is not installed: no_such_package_at_all",
        "leaves": "SystemExit: 3 (leaves.py:1)",
    }
    assert 0 < results["fresh_app.good"].own <= results["fresh_app.good"].seconds + 0.001
    assert not any(name.startswith("fresh_app") for name in sys.modules)


def test_a_module_that_kills_its_interpreter_is_told(package: Package, tmp_path: Path) -> None:
    sources = package(abrupt="import os\nos._exit(7)")

    errors = probe(tmp_path, sources).alone(["fresh_app.abrupt"])["fresh_app.abrupt"].errors

    assert errors == {"fresh_app.abrupt": "the interpreter ended with code 7:"}


def test_results_are_kept_by_file_hash_also_of_what_a_module_imports(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept" / "imports.json"
    sources = package(a="import fresh_app.b", b="x = 1", c="y = 1", bad="1 / 0")
    first = probe(tmp_path, sources, kept).alone()
    imported: list[str] = []
    run = Probe._import

    def spy(self: Probe, modules: tuple[str, ...]) -> object:
        imported.extend(modules)
        return run(self, modules)

    monkeypatch.setattr(Probe, "_import", spy)

    again = probe(tmp_path, sources, kept).alone()
    assert imported == ["fresh_app.bad"]
    assert again["fresh_app.a"] == first["fresh_app.a"]

    imported.clear()
    probe(tmp_path, package(a="import fresh_app.b", b="x = 2", c="y = 1", bad="1 / 0"), kept).alone()
    assert sorted(imported) == ["fresh_app.a", "fresh_app.b", "fresh_app.bad"]

    imported.clear()
    kept.write_text("{ this is cut off")
    probe(tmp_path, sources, kept).alone()
    assert len(imported) == 5


@pytest.mark.parametrize(
    ("old", "found", "warned", "same"),
    [
        (
            "import warnings\nwarnings.warn('moved', DeprecationWarning)\nfrom fresh_app.new import Thing",
            True,
            True,
            True,
        ),
        (
            """
            def __getattr__(name):
                import warnings
                from fresh_app import new
                warnings.warn("moved", DeprecationWarning)
                return getattr(new, name)
            """,
            True,
            True,
            True,
        ),
        ("from fresh_app.new import Thing", True, False, True),
        (
            "import warnings\nwarnings.warn('moved', DeprecationWarning)\nclass Thing: ...",
            True,
            True,
            False,
        ),
        ("x = 1", False, False, False),
    ],
    ids=["warns on import", "warns on access", "silent", "another object", "gone"],
)
def test_a_deprecated_place_must_warn_and_give_the_same_object(
    package: Package, tmp_path: Path, old: str, found: bool, warned: bool, same: bool
) -> None:
    sources = package(new="class Thing: ...", old=old)

    result = probe(tmp_path, sources).old_place(
        Place(module="fresh_app.old", name="Thing"), Place(module="fresh_app.new", name="Thing")
    )

    assert (result.error, result.found, result.warned, result.same) == ("", found, warned, same)


def test_a_file_loaded_under_two_names_is_told(package: Package, tmp_path: Path) -> None:
    sources = package(
        models="class User: ...",
        service="import os, sys\nsys.path.insert(0, os.path.dirname(__file__))\nimport models\n"
        "from fresh_app.models import User",
    )

    twice = probe(tmp_path, sources).whole().twice

    assert list(twice.values()) == [("fresh_app.models", "models")]


def test_one_module_under_two_keys_is_not_loaded_twice(package: Package, tmp_path: Path) -> None:
    sources = package(models="import sys\nsys.modules['fresh_app.alias'] = sys.modules[__name__]")

    assert probe(tmp_path, sources).whole().twice == {}


def test_time_over_the_budget_is_told_for_the_whole_for_each_and_for_one(
    package: Package, tmp_path: Path
) -> None:
    package(slow="import time\ntime.sleep(0.2)", quick="")
    subject = Subject(["fresh_app"], directory=tmp_path / "kept", roots=[tmp_path])

    def over(name: str, seconds: float, *, is_own: bool = False) -> list[str]:
        budget = Budget(name=name, seconds=seconds, is_own=is_own)
        return [str(finding.operation) for finding in subject.over_budget("fresh_app", budget)[0]]

    assert over("fresh_app", 0.19) == ["fresh_app"]
    assert over("fresh_app", 0.19, is_own=True) == ["fresh_app"]
    assert over("fresh_app.slow", 0.19) == ["fresh_app.slow"]
    assert over("each", 0.19) == ["fresh_app.slow"]
    assert over("fresh_app", 60) == over("fresh_app.quick", 60) == []


def test_time_that_cannot_be_taken_is_no_time_within_the_budget(package: Package, tmp_path: Path) -> None:
    package(bad="1 / 0")
    subject = Subject(["fresh_app"], directory=tmp_path / "kept", roots=[tmp_path])

    (finding,) = subject.over_budget("fresh_app", Budget(name="fresh_app.bad", seconds=60))[0]

    assert "its time cannot be taken: ZeroDivisionError" in finding.explanation


def test_budgets_are_read_for_packages_modules_each_module_and_own_time() -> None:
    assert read_budgets(["0.5"], ["a", "b"]) == (Budget(name="a", seconds=0.5), Budget(name="b", seconds=0.5))
    assert read_budgets(["a own = 0.15", "each = 1  # any", ""], ["a"]) == (
        Budget(name="a", seconds=0.15, is_own=True),
        Budget(name="each", seconds=1.0),
    )
    with pytest.raises(AuditError, match=r"'a = fast', which is no budget"):
        read_budgets(["a = fast"], ["a"])
    with pytest.raises(AuditError, match=r"a budget for 'b\.c', which is in none of the audited packages"):
        read_budgets(["b.c = 1"], ["a", "bb"])
