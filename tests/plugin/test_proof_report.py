"""``--ssot-report=proof.md``: the proof as it comes out of a run."""

from __future__ import annotations

import re

import pytest

from pytest_ssot_isolation.report.proof import without_times

from .conftest import Project

TESTS = """
    import pytest
    proves = pytest.mark.proves

    @proves("isolation.concurrent-users", controls=("SOC2:CC6.1",))
    def test_apart(): pass

    @proves("isolation.contexts")
    @pytest.mark.parametrize("user", ["alice", "bob"])
    def test_contexts(user):
        assert user == "alice", f"{user} has the context of alice"

    @proves("isolation.websockets")
    @pytest.mark.skip(reason="no sockets today")
    def test_sockets(): pass

    @pytest.fixture
    def broken(): raise OSError("the disk is full")

    @proves("ssot.factories")
    def test_factories(broken): pass

    @proves("resilience.concurrent-errors")
    @pytest.mark.xfail(reason="known since May", strict=True)
    def test_errors(): assert False

    def test_unmarked(): assert False
"""


def proof(project: Project, *arguments: str) -> str:
    project.run("--ssot-report=proof.md", *arguments)
    return (project.pytester.path / "proof.md").read_text(encoding="utf-8")


def standing(text: str, claim: str) -> str:
    found = re.search(rf"\(`{re.escape(claim)}`\) \| \*\*(.+?)\*\*", text)
    return found[1] if found else "not told"


def test_claims_stand_as_their_tests_ended(project: Project) -> None:
    text = proof(project.test(TESTS))

    assert [
        standing(text, f"isolation.{name}") for name in ("concurrent-users", "contexts", "websockets")
    ] == [
        "PROVED",
        "REFUTED",
        "NOT SHOWN",
    ]
    assert standing(text, "ssot.factories") == "NOT SHOWN"
    assert standing(text, "resilience.concurrent-errors") == "REFUTED"
    assert standing(text, "startup.no-cycles") == "NOT SHOWN"
    assert "- test_it.py::test_contexts[bob]: AssertionError: bob has the context of alice" in text
    assert "- test_it.py::test_sockets was skipped: no sockets today" in text
    assert "- test_it.py::test_factories could say nothing: OSError: the disk is full" in text
    assert "it is expected to fail, and does: known since May" in text
    assert "test_unmarked" not in text


def test_all_eight_sections_and_the_facts_of_the_run_are_there(project: Project) -> None:
    text = proof(project.test(TESTS), "--ssot-seed=77")

    assert re.findall(r"^## (\d)", text, re.MULTILINE) == list("12345678")
    assert "| seed | 77 |" in text
    assert f"| pytest | {pytest.__version__} |" in text
    assert (
        "| `test_it.py::test_apart` | passed | `isolation.concurrent-users` |"
        in text.partition("### SOC2:CC6.1")[2]
    )


def test_workers_give_the_same_proof_and_so_does_a_second_run(project: Project) -> None:
    project.test(TESTS)

    texts = [without_times(proof(project, "--ssot-seed=1", *more)) for more in ((), (), ("-n2",))]

    assert texts[0] == texts[1] == texts[2]


def test_a_test_that_passes_only_on_its_second_try_refutes(project: Project) -> None:
    # What plugins that run failed tests again do: every try is reported, under one id.
    project.conftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            for last in (False, True):
                item._initrequest()
                reports = runtestprotocol(item, nextitem=nextitem, log=False)
                if last or not any(report.failed for report in reports):
                    break
                for report in reports:
                    if report.failed:
                        report.outcome = "rerun"
                    item.ihook.pytest_runtest_logreport(report=report)
            for report in reports:
                item.ihook.pytest_runtest_logreport(report=report)
            return True

        def pytest_report_teststatus(report):
            if report.outcome == "rerun":
                return "rerun", "R", "RERUN"
        """
    )
    project.test(
        """
        import pytest
        tries = []

        @pytest.mark.proves("isolation.contexts")
        def test_flaky():
            tries.append(1)
            assert len(tries) > 1
        """
    )

    text = proof(project)

    assert standing(text, "isolation.contexts") == "REFUTED"
    assert "- test_it.py::test_flaky: it passed only after it had failed" in text


def test_a_benchmark_joins_with_its_budget(project: Project) -> None:
    project.ini(ssot_claims="claims.toml").file(
        "claims.toml",
        """
        [claims."performance.context-creation"]
        budgets = [{ mean = 10 }]
        before = 0.0153
        [claims."performance.many-users"]
        budgets = [{ users = 20, max = 1e-12 }]
        """,
    )
    project.test(
        """
        import pytest

        @pytest.mark.proves("performance.context-creation")
        def test_context(benchmark): benchmark(dict)

        @pytest.mark.proves("performance.many-users")
        @pytest.mark.parametrize("users", [20])
        def test_many(benchmark, users): benchmark(list, range(users))

        @pytest.mark.proves("performance.agent-factory")
        def test_without_a_budget(benchmark): benchmark(dict)
        """
    )

    text = proof(project, "--benchmark-max-time=0.01")

    assert standing(text, "performance.context-creation") == "PROVED"
    assert standing(text, "performance.many-users") == "REFUTED"
    assert standing(text, "performance.agent-factory") == "NOT SHOWN"
    assert re.search(r"\| test_context \|  \|( [\d.]+ .?s \|){3} mean 10 s \| 15\.3 ms \| within \|", text)
    assert re.search(r"\| test_many\[20\] \| 20 \|( [\d.]+ .?s \|){3} max 0\.001 ns \|  \| over \|", text)


def test_a_section_added_by_configuration_is_not_shown_until_a_test_shows_it(project: Project) -> None:
    project.ini(ssot_claims="claims.toml").file(
        "claims.toml",
        "[sections]\n9 = 'Backups'\n[claims.restores]\nsection = 9\ntext = 'A backup restores'\n",
    )
    project.test("def test_it(): pass\n")

    text = proof(project)

    assert "## 9 Backups" in text
    assert standing(text, "restores") == "NOT SHOWN"


def test_the_audit_stands_behind_its_claims(project: Project) -> None:
    pytest.importorskip("grimp")
    project.file("app/__init__.py", "").file("app/state.py", "x = {}\ndef f(user): x[user] = 1\n")
    project.ini(ssot_packages="app", ssot_import_budget="app = 30", pythonpath=".")

    text = proof(project, "--ssot")

    assert standing(text, "ssot.no-shared-state") == "REFUTED"
    assert standing(text, "startup.no-cycles") == "PROVED"
    assert standing(text, "startup.import-time") == "PROVED"
    assert re.search(r"\| import of app \| [\d.]+ s of 30 s \|", text)
    assert "app.state.x is one for the whole process, and holds what belongs to a user" in text


def test_a_file_of_claims_that_cannot_be_used_stops_the_run_before_it_begins(project: Project) -> None:
    project.ini(ssot_claims="missing.toml").test("def test_it(): pass\n")

    result = project.run("--ssot-report=proof.md")

    assert result.ret is pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*ssot_claims names *missing.toml, which cannot be read*"])


def test_the_score_of_weakened_guards_is_told(project: Project) -> None:
    text = proof(
        project.test("""
        import cachetools, pytest
        from pytest_ssot_isolation import Surface, keys, operation, secrets

        class Notes(Surface):
            @operation(title=keys(), body=secrets())
            async def write(self, title, body):
                self.world[self.user.user_id, title] = body

            @operation(title=keys())
            async def read(self, title):
                return self.world.get((self.user.user_id, title))

        @pytest.mark.proves("isolation.concurrent-users")
        def test_apart(isolation):
            world = lambda: cachetools.LRUCache(100)
            isolation.check(Notes, world=world, mutate="cache_key", examples=20, ids="plain")
        """)
    )

    assert standing(text, "isolation.concurrent-users") == "PROVED"
    assert "| weakened guards noticed | 1 of 1 |" in text
