"""Another plugin adds an oracle, a surface and a kind of value, and sees the findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

PLUGIN = """
    from pytest_ssot_isolation import Finding, Surface, keys, operation, secrets
    from pytest_ssot_isolation.model.value_kinds import ValueKind
    from pytest_ssot_isolation.model.verdict import Judgement


    class Chatty:
        '''No answer may be longer than a limit.'''

        name = "chatty"

        def judge(self, history):
            if not history.observations:
                return Judgement.inconclusive("nobody saw anything")
            return Judgement.of(
                Finding(
                    oracle=self.name,
                    operation=seen.operation,
                    victim=history.principals[seen.user].name,
                    victim_index=seen.user,
                    index=seen.call,
                    explanation=f"the answer of {seen.operation} is too long",
                )
                for seen in history.observations
                if isinstance(seen.seen, str) and len(seen.seen) > 100
            )


    class Notes(Surface):
        @operation(title=keys(), body=secrets())
        async def write(self, title, body):
            self.world[self.user.user_id, title] = body

        @operation(title=keys())
        async def read(self, title):
            return self.world.get((self.user.user_id, title))

        @operation(may_fail=True)
        async def terms(self):
            return "all that you write is yours. " * self.world.get("length", 1)


    def pytest_ssot_oracles(config):
        return [Chatty()]


    def pytest_ssot_surfaces(config):
        return [Notes]


    def pytest_ssot_value_kinds(config):
        return [ValueKind("reference", lambda secret: f"REF/{secret}")]


    def pytest_ssot_finding(finding, report, config):
        with open(config.rootpath / "heard.txt", "a") as file:
            file.write(f"{report.subject} {finding.oracle} {finding.operation} {len(finding.calls)}\\\\n")
"""

CHECK = """
    def test_notes(isolation):
        report = isolation.check("Notes", world=lambda: {{"length": {length}}}, examples=4, ids="plain"{more})
        assert {expected}
"""


def with_plugin(project: Project, length: int, more: str = "", expected: str = "True") -> Project:
    project.pytester.makepyfile(house_rules=PLUGIN.replace("\\\\n", "\\n"))
    project.conftest('pytest_plugins = ["house_rules"]')
    return project.test(CHECK.format(length=length, more=more, expected=expected))


def test_an_added_oracle_judges_every_history_and_its_finding_is_made_small(project: Project) -> None:
    result = with_plugin(project, length=9).run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*LEAK  chatty  the answer of terms is too long*", "*the same in 5 of 5 replays*"]
    )
    assert (project.pytester.path / "heard.txt").read_text() == "Notes chatty terms 1\n"


def test_where_it_finds_nothing_the_check_is_clean_and_names_it(project: Project) -> None:
    result = with_plugin(project, length=1, expected='"chatty" in report.oracles').run()

    result.assert_outcomes(passed=1)
    assert not (project.pytester.path / "heard.txt").exists()


def test_its_name_may_be_chosen_and_left_out_like_any_other(project: Project) -> None:
    chosen = ', oracles=("canary",)'
    with_plugin(project, length=9, more=chosen, expected="report.findings == ()").run().assert_outcomes(
        passed=1
    )
    with_plugin(project, length=9, more=', oracles=("chatty",)').run().assert_outcomes(failed=1)


INVOICES = """
    from pytest_ssot_isolation import Surface, operation, secrets

    class Invoices(Surface):
        @operation(number=secrets("reference"))
        async def file(self, number):
            assert number.startswith("REF/")
            self.world.setdefault({owner}, []).append(number)

        @operation
        async def mine(self):
            return list(self.world.get({owner}, ()))

    def test_invoices(isolation):
        isolation.check(Invoices, world=dict, examples=4, ids="plain")

    def test_by_hand(canaries, user_context):
        assert canaries.scan(canaries.mint(user_context, "reference"))[0].owner == user_context
"""


@pytest.mark.parametrize(("owner", "failed"), [("self.user.user_id", 0), ("None", 1)])
def test_an_added_kind_of_value_is_planted_and_told_again(project: Project, owner: str, failed: int) -> None:
    result = with_plugin(project, length=1).test(INVOICES.format(owner=owner)).run()

    result.assert_outcomes(passed=2 - failed, failed=failed)
    if failed:
        result.stdout.fnmatch_lines(["*LEAK  canary  bob saw what alice wrote, in mine*"])


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("object()", "which is no kind of value"),
        ("ValueKind('email', str)", "a second kind named 'email'"),
        ("ValueKind('digest', lambda secret: secret[:4])", "hides its secret"),
        ("ValueKind('broken', lambda secret: 1 / 0)", "could not be made: ZeroDivisionError"),
    ],
)
def test_a_kind_of_value_that_cannot_be_used_is_told_before_any_test(
    project: Project, kind: str, why: str
) -> None:
    project.conftest(
        "from pytest_ssot_isolation.model.value_kinds import ValueKind\n"
        f"def pytest_ssot_value_kinds(config): return [{kind}]"
    ).test("def test_it(): pass")

    result = project.run()

    assert why in result.stdout.str() + result.stderr.str()
    result.assert_outcomes()


def test_an_oracle_that_breaks_is_named(project: Project) -> None:
    with_plugin(project, length=1)
    source = (project.pytester.path / "house_rules.py").read_text()
    (project.pytester.path / "house_rules.py").write_text(
        source.replace("if not history.observations:", "if 1 / 0:")
    )

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*The oracle 'chatty' of another plugin could not judge a history: ZeroDivision*"]
    )


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        ("pytest_ssot_oracles(config): return [object()]", "which is no oracle"),
        ("pytest_ssot_oracles(config): return 5", "return a list"),
        ("pytest_ssot_oracles(config): return [Named()]", "a second oracle named 'canary'"),
        ("pytest_ssot_surfaces(config): return [object()]", "which is no class"),
        (
            "pytest_ssot_surfaces(config): return [type('Notes', (), {}), type('Notes', (), {})]",
            "two surfaces named 'Notes'",
        ),
    ],
)
def test_what_a_hook_gives_and_cannot_be_used_is_told_with_the_remedy(
    project: Project, hook: str, why: str
) -> None:
    named = "class Named:\n    name = 'canary'\n    def judge(self, history): ...\n"
    project.conftest(f"{named}\ndef {hook}").test(CHECK.format(length=1, more="", expected="True"))

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{why}*", "*To fix this*"])


def test_a_name_that_nobody_offers_is_told_with_those_that_are(project: Project) -> None:
    with_plugin(project, length=1).test("def test_it(isolation): isolation.check('Nots', world=dict)")

    result = project.run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*There is no surface named 'Nots'; those that plugins offer: 'Notes'*"])
