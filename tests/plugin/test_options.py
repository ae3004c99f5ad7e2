"""Options: the command line, then the environment, then the ini file; an empty value asks for the default."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_ssot_isolation import options

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

SHOW = """
    def test_show(isolation):
        settings = isolation.settings
        print("PROFILE", settings.profile, "FAIL_ON", settings.fail_on, "BUDGET", settings.budget)
        print("REPORT", *[path.name for path in settings.report])
        print("CANONICAL", *settings.canonical)
"""


@pytest.mark.parametrize(
    ("line", "variable", "ini", "seen"),
    [
        ([], None, None, "default"),
        ([], None, "deep", "deep"),
        ([], "quick", "deep", "quick"),
        (["--ssot-profile=deep"], "quick", "quick", "deep"),
        ([], "", "deep", "default"),
        (["--ssot-profile="], "quick", "deep", "default"),
    ],
    ids=[
        "nothing said", "ini alone", "environment beats ini", "command line beats both",
        "an empty variable beats the ini", "an empty flag beats both",
    ],
)  # fmt: skip
def test_what_is_named_first_wins(
    open_project: Project, line: list[str], variable: str | None, ini: str | None, seen: str
) -> None:
    if ini is not None:
        open_project.ini(ssot_profile=ini)
    if variable is not None:
        open_project.environment({"SSOT_PROFILE": variable})
    result = open_project.test(SHOW).run_alone("-s", *line)
    result.stdout.fnmatch_lines([f"*PROFILE {seen} *"])


def test_lists_come_from_repeated_flags_and_from_lines_of_the_ini(open_project: Project) -> None:
    open_project.ini(ssot_canonical="\n  app.Context\n  app.Factory")
    result = open_project.test(SHOW).run_alone("-s", "--ssot-report=a.json", "--ssot-report=b/c.json")
    result.stdout.fnmatch_lines(["REPORT a.json c.json", "CANONICAL app.Context app.Factory"])


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--ssot-profile=fast", "--ssot-profile=fast: the value is not one of quick, default, deep."),
        (
            "--ssot-budget=soon",
            "--ssot-budget=soon: the value must be a number of seconds, such as 120 or 0.5.",
        ),
        ("--ssot-budget=-1", "--ssot-budget=-1: the value must be a number of seconds above 0."),
        ("--ssot-budget=nan", "--ssot-budget=nan: the value must be a number of seconds above 0."),
        (
            "--ssot-seed=x",
            "--ssot-seed=x: the value must be a whole number from 0, such as the one in the header*",
        ),
        ("--ssot-fail-on=all", "--ssot-fail-on=all: the value is not one of leak, low, hint."),
        (
            "--ssot-report=proof.txt",
            "--ssot-report=proof.txt: the value names proof.txt, and the suffix gives*",
        ),
        (
            "--ssot-postgres=here",
            "--ssot-postgres: the value must be auto, embedded, container or a DSN such as*",
        ),
    ],
)
def test_a_bad_value_is_refused_with_what_can_be_taken(project: Project, argument: str, said: str) -> None:
    result = project.test("def test_it(): pass").run_alone(argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}", "An empty value (*=) asks for the default*"])


def test_a_bad_value_in_the_environment_is_told_by_its_variable(project: Project) -> None:
    result = project.environment({"SSOT": "perhaps"}).run_alone()
    result.stderr.fnmatch_lines(
        ["ERROR: SSOT=perhaps: the value must be 1 or 0 (true, yes, on; false, no, off)."]
    )


def test_a_password_is_never_shown(project: Project) -> None:
    for said in ("postgresql://app:hunter2@db/app_test", "app:hunter2@db"):
        result = project.run_alone(f"--ssot-postgres={said}", "--collect-only")
        result.stdout.no_fnmatch_line("*hunter2*")
        result.stderr.no_fnmatch_line("*hunter2*")


def test_a_seed_that_is_given_is_the_seed(project: Project) -> None:
    result = project.run_alone("--ssot-seed=42")
    result.stdout.fnmatch_lines(["ssot-isolation: profile default, seed 42 (as given);*"])


def test_without_a_seed_that_of_hypothesis_is_taken(project: Project) -> None:
    result = project.run("--hypothesis-seed=17")
    result.stdout.fnmatch_lines(["ssot-isolation: profile default, seed 17 (of --hypothesis-seed);*"])


def test_without_any_seed_one_is_drawn_and_printed(project: Project) -> None:
    seeds = {
        line
        for _ in range(3)
        for line in project.run_alone().outlines
        if line.startswith("ssot-isolation: profile default, seed ") and "(random)" in line
    }
    assert len(seeds) > 1


def test_every_worker_draws_with_the_seed_of_the_header(open_project: Project) -> None:
    open_project.test(
        """
        import pytest
        @pytest.mark.parametrize("number", range(4))
        def test_it(isolation, number, testrun_uid):
            with open(f"seed-{number}", "w") as file:
                file.write(str(isolation.settings.seed))
        """
    )
    result = open_project.run("-n2")
    result.assert_outcomes(passed=4)
    seeds = {(open_project.pytester.path / f"seed-{number}").read_text() for number in range(4)}
    assert len(seeds) == 1
    result.stdout.fnmatch_lines([f"ssot-isolation: profile default, seed {seeds.pop()} (random);*"])


def test_the_table_and_the_settings_name_the_same_things() -> None:
    fields = set(options.Settings.__dataclass_fields__) - {"seed_origin"}
    assert {option.name for option in options.TABLE} == fields
