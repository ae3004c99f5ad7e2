"""``pytest --ssot``: the audit as a person meets it."""

from __future__ import annotations

import json

import pytest

from .conftest import Project

pytest.importorskip("grimp")

SOUND = {
    "app/__init__.py": "",
    "app/context.py": "class Context:\n    def __init__(self, user_id): self.user_id = user_id\n",
    "app/old.py": "import warnings\nwarnings.warn('moved', DeprecationWarning)\n"
    "from app.context import Context\n__all__ = ['Context']\n",
    "app/agents.py": "from app.context import Context\ndef agent(context): return [context]\n",
}


def audited(project: Project, **files: str) -> Project:
    for name, text in {**SOUND, **{f"app/{name}.py": text for name, text in files.items()}}.items():
        project.file(name, text)
    return project.ini(
        ssot_packages="app",
        ssot_canonical="app.context:Context <- app.old:Context",
        ssot_import_budget="app = 30",
        pythonpath=".",
    )


def test_a_sound_package_passes_each_sentence(project: Project) -> None:
    result = audited(project).test("def test_own(): pass\n").run("--ssot", "-v")

    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines_random(
        [
            "test_it.py::test_own PASSED*",
            "ssot::app*context:Context has one definition and one import path PASSED*",
            "ssot::app*old:Context still imports, warns, and gives the same object as app*context:Context PASSED*",
            "ssot::every canonical name can be imported from its place PASSED*",
            "ssot::app keeps nothing of a user in the state of its modules PASSED*",
            "ssot::app keeps nothing of a user in the state of its classes PASSED*",
            "ssot::app keeps nothing of a user in default arguments PASSED*",
            "ssot::app keeps nothing of a user in the caches of its functions PASSED*",
            "ssot::app loads no class under two module names PASSED*",
            "ssot::app has no import cycle PASSED*",
            "ssot::app has only modules that import alone in a fresh interpreter PASSED*",
            "ssot::app with all its modules imports within 30 s in all PASSED*",
        ]
    )


def test_a_sentence_that_does_not_hold_fails_with_the_place_and_no_traceback(project: Project) -> None:
    shared = "agents = {}\ndef agent(user):\n    return agents.setdefault(user, object())\n"

    result = audited(project, shared=shared).run("--ssot", "-m", "ssot")

    result.assert_outcomes(passed=10, failed=1)
    result.stdout.fnmatch_lines(
        [
            "It does not hold that app keeps nothing of a user in the state of its modules:",
            "  - app.shared.agents is one for the whole process, and holds what belongs to a user: "
            "agent() writes to it (shared.py:3) [[]app.shared, line 1[]]",
        ]
    )
    result.stdout.no_fnmatch_line("*audit/items.py*")


def test_without_the_option_nothing_is_audited(project: Project) -> None:
    result = audited(project).test("def test_own(): pass\n").run()

    result.assert_outcomes(passed=1)


def test_the_items_are_selected_by_marker_and_by_words(project: Project) -> None:
    package = audited(project).test("def test_own(): pass\n")

    package.run("--ssot", "-m", "not ssot").assert_outcomes(passed=1, deselected=11)
    package.run("--ssot", "-k", "cycle").assert_outcomes(passed=1, deselected=11)


def test_what_weighs_less_is_told_and_fails_only_when_asked_to(project: Project) -> None:
    package = audited(project, plugins="KEPT = {}\ndef install(name, plugin): KEPT[name] = plugin\n")

    package.run("--ssot").assert_outcomes(passed=11)
    result = package.run("--ssot", "--ssot-fail-on=low")
    result.assert_outcomes(passed=10, failed=1)
    result.stdout.fnmatch_lines(
        ["*app.plugins.KEPT is one for the whole process, and objects are put there*"]
    )


def test_the_package_is_never_imported_by_the_tests_own_process(project: Project) -> None:
    project.conftest(
        "import sys\n"
        "def pytest_sessionfinish():\n"
        "    print('loaded:', [name for name in sys.modules if name.startswith('app')])\n"
    )

    result = audited(project).run("--ssot", "-s")

    result.stdout.fnmatch_lines(["*loaded: [[][]]*"])


def test_workers_share_the_audit_out(project: Project) -> None:
    result = audited(project, bad="1 / 0\n").run("--ssot", "-n2")

    result.assert_outcomes(passed=10, failed=1)
    result.stdout.fnmatch_lines(["*app.bad cannot be imported alone: ZeroDivisionError: *(bad.py:1)"])


def test_findings_go_into_the_report_of_the_run(project: Project) -> None:
    audited(project, a="import app.b\n", b="import app.a\n").run("--ssot", "--ssot-report=report.json")

    text = (project.pytester.path / "report.json").read_text()
    assert "app.a imports app.b imports app.a" in text
    assert json.loads(text)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "*--ssot asks for the source audit, and no package is named to audit.*"),
        ({"ssot_packages": "app", "ssot_canonical": "app.Context"}, "*'app.Context' names no place.*"),
        ({"ssot_packages": "app", "ssot_import_budget": "app = soon"}, "*'app = soon', which is no budget.*"),
    ],
    ids=["no package", "no place", "no budget"],
)
def test_a_configuration_that_cannot_be_carried_out_is_refused(
    project: Project, values: dict[str, str], told: str
) -> None:
    result = project.ini(**values).run("--ssot")

    assert result.ret is pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])


def test_a_package_that_is_not_there_fails_each_sentence_with_the_remedy(project: Project) -> None:
    result = project.ini(ssot_packages="no_such_app").run("--ssot", "-k", "cycle")

    result.assert_outcomes(failed=1, deselected=6)
    result.stdout.fnmatch_lines(
        ["ssot_packages names 'no_such_app', and there is no package*", "To fix this*"]
    )
