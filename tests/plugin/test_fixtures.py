"""What the fixtures hand to a test, and which tests `-m isolation` selects."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.plugin.conftest import Project


def test_every_test_that_requests_isolation_is_selected_by_its_marker(project: Project) -> None:
    project.test(
        """
        import pytest
        @pytest.fixture
        def checked(isolation): pass
        def test_direct(isolation): pass
        def test_through_another_fixture(checked): pass
        @pytest.mark.usefixtures("isolation")
        def test_named_by_a_marker(): pass
        def test_without(user_context): pass
        """
    )
    result = project.run_alone("--collect-only", "-q", "-m", "isolation")
    result.stdout.fnmatch_lines(
        ["*::test_direct", "*::test_through_*", "*::test_named_by_a_marker", "*3/4 tests*"]
    )


def test_defaults_of_nearer_markers_win(open_project: Project) -> None:
    open_project.test(
        """
        import pytest
        pytestmark = pytest.mark.isolation(users=7, calls=9)
        @pytest.mark.isolation(users=5)
        def test_it(isolation):
            assert isolation.marker == {"users": 5, "calls": 9}
        """
    ).run_alone().assert_outcomes(passed=1)


def test_a_marker_with_positional_arguments_is_refused(open_project: Project) -> None:
    open_project.test(
        """
        import pytest
        @pytest.mark.isolation(5)
        def test_it(isolation): pass
        """
    )
    result = open_project.run_alone()
    result.stdout.fnmatch_lines(
        ["*test_it: @pytest.mark.isolation takes its arguments by name, as in @*(users=3)."]
    )
    result.assert_outcomes(errors=1)


def test_users_are_three_and_differ_in_user_and_tenant(project: Project) -> None:
    project.test(
        """
        import pytest
        def test_three(user_contexts):
            assert len({context.user_id for context in user_contexts}) == 3
            assert len({context.tenant_id for context in user_contexts}) == 3
        @pytest.mark.isolation(users=5)
        def test_as_many_as_the_marker_says(user_contexts, make_user_context, user_context):
            everybody = {*user_contexts, user_context, make_user_context()}
            assert len(user_contexts) == 5
            assert len({context.user_id for context in everybody}) == 7
        def test_what_is_given_is_kept(make_user_context):
            context = make_user_context("alice", tenant_id=None, roles=("admin",))
            assert (context.user_id, context.tenant_id, context.roles) == ("alice", None, ("admin",))
        """
    ).run_alone().assert_outcomes(passed=3)


def test_one_seed_gives_the_same_users_and_another_seed_gives_others(project: Project) -> None:
    project.test("def test_it(user_context): print('USER', user_context.user_id)")

    def user(seed: int) -> list[str]:
        return [line for line in project.run_alone("-s", f"--ssot-seed={seed}").outlines if "USER" in line]

    assert user(1) == user(1) != user(2)


def test_canaries_name_their_owner_wherever_they_turn_up(project: Project) -> None:
    project.test(
        """
        import base64
        def test_it(canaries, user_contexts):
            alice, bob, _ = user_contexts
            secret, number = canaries.mint(alice), canaries.mint(bob, int)
            answer = {"items": [{"body": base64.b64encode(secret.encode()).decode()}, {"count": number}]}
            assert [(one.owner, one.encoding) for one in canaries.scan(answer, reader=bob)] == [(alice, "base64")]
            assert [one.owner for one in canaries.scan(answer, reader=alice)] == [bob]
            assert len(canaries.scan(answer)) == 2
            assert canaries.scan("nothing of anybody") == ()
        """
    ).run_alone().assert_outcomes(passed=1)


def test_resets_are_those_of_the_databases_that_the_test_asked_for(open_project: Project) -> None:
    open_project.test(
        """
        import pytest
        from types import SimpleNamespace
        from pytest_ssot_isolation import postgres_database

        class Database(SimpleNamespace):
            __enter__ = lambda self: self
            __exit__ = lambda self, *error: None
            async def reset_async(self): pass
            def blocked_pids(self): return frozenset({1, 2})

        @pytest.fixture(scope="session")
        def postgres_server():
            return SimpleNamespace(new_database=lambda schema: Database(schema=schema))

        shared = postgres_database(scope="module")

        def test_both(isolation, shared, postgres):
            assert [reset.__self__ for reset in isolation.resets()] == [shared, postgres]
            assert isolation.blocked()() == 4
        def test_the_wider_one_stays_open_and_is_left_alone(isolation, postgres):
            assert [reset.__self__ for reset in isolation.resets()] == [postgres]
        def test_none(isolation):
            assert isolation.resets() == []
            assert isolation.blocked() is None
        """
    ).run_alone().assert_outcomes(passed=3)


def test_a_schema_is_found_beside_the_test_and_else_from_the_root(project: Project) -> None:
    project.file("schema/notes.sql", "beside the root").file("tests/near.sql", "beside the test")
    project.file(
        "tests/test_schema.py",
        """
import pytest
from types import SimpleNamespace
from contextlib import nullcontext

@pytest.fixture(scope="session")
def postgres_server():
    return SimpleNamespace(new_database=nullcontext)

@pytest.mark.postgres(schema=["near.sql", "schema/notes.sql"])
def test_found(postgres):
    assert [path.read_text() for path in postgres] == ["beside the test", "beside the root"]

@pytest.mark.postgres(schema="gone.sql")
def test_missing(postgres): pass
""",
    )
    result = project.run_alone()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["*There is no schema file 'gone.sql'. Looked for, in order:", "*tests/gone.sql"]
    )


def test_seconds_of_the_run_are_shared_over_its_checks(open_project: Project) -> None:
    open_project.test(
        """
        def test_one(isolation): assert isolation.share == 6.0
        def test_other(isolation): assert isolation.share == 6.0
        def test_none(): pass
        """
    ).run_alone("--ssot-budget=12").assert_outcomes(passed=3)


def test_the_summary_tells_the_servers_that_were_used_and_why_not_others(project: Project) -> None:
    project.test(
        """
        import pytest
        from pytest_ssot_isolation import postgres_database
        notes = postgres_database(schema="create table notes (body text); grant all on notes to public;")

        @pytest.mark.parametrize("time", [1, 2])
        def test_each_has_a_database_of_its_own(notes, time):
            notes.apply("insert into notes values ('one')")
        """
    )
    result = project.run_alone("--ssot-postgres=embedded")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["ssot-isolation: postgres 1*.* embedded"])
