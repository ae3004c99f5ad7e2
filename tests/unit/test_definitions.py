"""Canonical names: one definition and one import path each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from pytest_ssot_isolation.audit.definitions import judge, read_canonical
from pytest_ssot_isolation.audit.sources import read_package
from pytest_ssot_isolation.errors import AuditError

Told = Callable[..., list[str]]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Write the modules of a package, and say what is found for one line of ``ssot_canonical``."""

    def told(line: str, **modules: str) -> list[str]:
        package = tmp_path / "app"
        package.mkdir(exist_ok=True)
        for name, text in {"__init__": "", **modules}.items():
            (package / f"{name}.py").write_text(dedent(text))
        monkeypatch.syspath_prepend(tmp_path)
        (canonical,) = read_canonical([line])
        return [finding.explanation for finding in judge(canonical, read_package("app"))]

    return told


def test_a_name_defined_once_and_imported_from_there_is_sound(told: Told) -> None:
    assert (
        told(
            "app.context:Context",
            context="class Context: ...",
            absolute="from app.context import Context\ndef f(x: Context): ...",
            relative="def f():\n    from .context import Context as C\n    return C",
        )
        == []
    )


def test_a_second_definition_is_told_with_its_place(told: Told) -> None:
    assert told("app.context:Context", context="class Context: ...", legacy="x = 1\nclass Context: ...") == [
        "Context is defined in app.context and again in app.legacy (legacy.py:2)"
    ]


def test_a_second_definition_in_the_same_module_is_told_and_overloads_are_not(told: Told) -> None:
    overloads = """
        from typing import overload
        @overload
        def get(x: int) -> int: ...
        @overload
        def get(x: str) -> str: ...
        def get(x): return x
    """
    assert told("app.state:get", state=overloads) == []
    assert told("app.state:get", state="def get(): ...\ndef get(): ...") == [
        "app.state:get is defined 2 times in its own module"
    ]


@pytest.mark.parametrize(
    "package",
    [
        "from .context import Context",
        "from .context import Context\n__all__ = ['Context']",
        "from .context import *",
    ],
)
def test_a_package_that_exports_it_as_well_is_a_second_import_path(told: Told, package: str) -> None:
    (explanation,) = told("app.context:Context", __init__=package, context="class Context: ...")

    assert explanation.startswith("Context can be imported from app as well as from app.context")


def test_a_second_name_for_it_is_told(told: Told) -> None:
    assert told(
        "app.context:Context",
        context="class Context: ...",
        legacy="from app import context\nUserContext = context.Context",
    ) == ["app.legacy:UserContext is a second name for app.context:Context (legacy.py:2)"]


def test_an_import_from_a_module_that_only_imports_it_is_told(told: Told) -> None:
    assert told(
        "app.context:Context",
        context="class Context: ...",
        middle="from app.context import Context\nprint(Context)",
        late="def f():\n    from app.middle import Context",
    ) == ["app.late imports Context from app.middle, a second place, and not from app.context (late.py:2)"]


def test_a_name_may_be_canonical_where_its_package_exports_it(told: Told) -> None:
    modules = {
        "__init__": "from ._context import Context as Context\n__all__ = ['Context']",
        "_context": "class Context: ...",
        "inside": "from ._context import Context",
        "outside": "from app import Context",
    }

    assert told("app:Context", **modules) == []


def test_a_deprecated_place_is_no_second_path_but_nobody_inside_may_use_it(told: Told) -> None:
    modules = {
        "context": "class Context: ...",
        "old": "from app.context import Context\n__all__ = ['Context']",
    }

    assert told("app.context:Context <- app.old:Context", **modules) == []
    assert told("app.context:Context <- app.old:Context", **modules, user="from app.old import Context") == [
        "app.user imports Context from app.old, its deprecated place, and not from app.context (user.py:1)"
    ]


def test_a_name_that_is_not_there_is_told_and_not_passed_over(told: Told) -> None:
    assert told("app.context:Kontext", context="class Context: ...") == [
        "app.context:Kontext cannot be found: app.context has no such name"
    ]
    assert told("other:Context") == [
        "other:Context cannot be found: other is no module of the audited packages"
    ]


def test_a_constant_and_a_name_under_if_and_try_are_found(told: Told) -> None:
    text = """
        import sys
        if sys.platform == "win32":
            LIMIT = 1
        else:
            try:
                LIMIT = 2
            except ValueError:
                LIMIT = 3
    """
    assert told("app.state:LIMIT", state=text) == []


def test_lines_are_read_with_comments_and_several_old_places() -> None:
    (one,) = read_canonical(["", "# none", "app.context:Context <- old:Context, older.place:C  # since 3.0"])

    assert str(one.place) == "app.context:Context"
    assert [str(old) for old in one.deprecated] == ["old:Context", "older.place:C"]


@pytest.mark.parametrize("line", ["app.context.Context", "app:", "app:A <- old.A", "app:A -> old:A"])
def test_a_line_of_another_form_is_refused_with_the_form(line: str) -> None:
    with pytest.raises(
        AuditError, match=r"(?s)ssot_canonical has the line .*write `package\.module:Name`"
    ) as raised:
        read_canonical([line])
    assert line in str(raised.value)


def test_an_unknown_package_is_refused_with_the_remedy() -> None:
    with pytest.raises(AuditError, match=r"there is no package 'no_such_thing' to be found\.\nTo fix this"):
        read_package("no_such_thing.inner")
