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


def test_a_first_try_that_nobody_reported_refutes_as_well(project: Project) -> None:
    # So does the plugin `flaky`: only the try that counts for it is reported.
    project.conftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
            if any(report.failed for report in reports):
                item._initrequest()
                reports = runtestprotocol(item, nextitem=nextitem, log=False)
            for report in reports:
                item.ihook.pytest_runtest_logreport(report=report)
            return True
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

        @pytest.fixture
        def shaky():
            tries.append(1)
            assert len(tries) > 3

        @pytest.mark.proves("isolation.websockets")
        def test_of_a_shaky_fixture(shaky): pass

        @pytest.mark.proves("isolation.databases")
        def test_that_fails_twice(): assert 1 == 2
        """
    )

    for arguments in ((), ("-n1",)):
        text = proof(project, *arguments)

        assert standing(text, "isolation.contexts") == "REFUTED"
        assert standing(text, "isolation.websockets") == "REFUTED"
        assert "- test_it.py::test_flaky: it passed only after it had failed" in text
        assert "- test_it.py::test_that_fails_twice: AssertionError: assert 1 == 2" in text


def test_a_claim_of_the_projects_own_section_needs_a_test_as_well(project: Project) -> None:
    project.ini(ssot_claims="claims.toml").file(
        "claims.toml",
        """
        [sections]
        9 = "Backups"
        [claims."backup.restores"]
        section = 9
        text = "A backup restores"
        """,
    )
    project.test("def test_it(): pass\n")

    text = proof(project)

    assert "## 9 Backups" in text
    assert standing(text, "backup.restores") == "NOT SHOWN"
    assert "- no test that ran is marked as proving it" in text.partition("## 9 Backups")[2]


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "in a worker"])
def test_a_proof_from_some_of_the_tests_says_from_which(project: Project, workers: tuple[str, ...]) -> None:
    project.test(TESTS)

    assert "| tests | all that were found |" in proof(project, *workers)
    text = proof(project, "-k", "apart", "test_it.py", *workers)

    assert "| tests | only those of: -k apart test_it.py |" in text
    assert standing(text, "isolation.concurrent-users") == "PROVED"
    assert standing(text, "isolation.contexts") == "NOT SHOWN"


def test_what_could_not_be_collected_and_why_the_run_ended_early_are_told(project: Project) -> None:
    project.test(TESTS).file("test_broken.py", "import nothing_of_that_name\n")

    text = proof(project, "--continue-on-collection-errors", "--maxfail=2")

    assert "| not collected | test_broken.py |" in text
    assert "| ended early | stopping after 2 failures |" in text


def test_a_strict_xfail_that_passes_refutes_and_says_so(project: Project) -> None:
    project.test(
        """
        import pytest

        @pytest.mark.proves("isolation.contexts")
        @pytest.mark.xfail(strict=True, reason="known since May")
        def test_it(): pass
        """
    )

    text = proof(project)

    assert standing(text, "isolation.contexts") == "REFUTED"
    assert "- test_it.py::test_it: [XPASS(strict)] known since May" in text


def test_what_is_wrong_with_a_factory_is_told_in_whole_sentences(project: Project) -> None:
    project.test(
        """
        import pytest

        class Agent: pass
        only = Agent()

        def make(context):
            if context is None:
                raise ValueError("no context")
            return only

        @pytest.mark.proves("ssot.factories", controls=("SOC2:CC6.1",))
        def test_it(isolation): isolation.check_factory(make)
        """
    )

    text = proof(project)

    told = "- test_it.py::test_it: make gave one and the same Agent to user-0000, user-0001, user-0002, "
    assert f"{told}user-0003 and 16 more" in text
    assert "Tests: 1 failed. Findings: " in text.partition("### SOC2:CC6.1")[2]


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
