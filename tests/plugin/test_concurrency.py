"""``@pytest.mark.concurrency``: an ordinary ``async def`` test, run by several users at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

SHOP = """
import asyncio
import pytest

class Shop:
    def __init__(self):
        self.current = None
        self.carts = {}

    async def add(self, user, what):
        self.current = user
        await asyncio.sleep(0)
        self.carts.setdefault(self.current if LEAKY else user, []).append(what)

@pytest.fixture
def shop():
    return Shop()
"""
TEST = """
@pytest.mark.concurrency(users=3, examples=50)
async def test_the_cart_is_mine(shop, user_context):
    await shop.add(user_context, "book")
    assert shop.carts.get(user_context) == ["book"]
"""
WAYS = pytest.mark.parametrize(
    "options",
    [("-o", "asyncio_mode=strict"), ("-o", "asyncio_mode=auto"), ("-p", "no:asyncio")],
    ids=["strict", "auto", "without pytest-asyncio"],
)


def shop(*, leaky: bool) -> str:
    return f"LEAKY = {leaky}\n{SHOP}"


def run(project: Project, *options: str) -> pytest.RunResult:
    # Without pytest-asyncio its ini value would be unknown, and a strict run refuses it.
    if "no:asyncio" in options:
        return project.run_alone("--ssot-seed=1")
    return project.run("--ssot-seed=1", *options)


@WAYS
def test_a_sound_application_passes(project: Project, options: tuple[str, ...]) -> None:
    result = run(project.test(shop(leaky=False) + TEST), *options)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["CLEAN*test_the_cart_is_mine: 50 programs, 150 calls*"])


@WAYS
def test_a_race_fails_with_the_smallest_interleaving(project: Project, options: tuple[str, ...]) -> None:
    result = run(project.test(shop(leaky=True) + TEST), *options)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>       assert shop.carts.get(user_context) == [[]"book"[]]',
            "*an assertion of the author's own failed in test*",
            "*needs * switch* in the middle of*",
            "*order * stops at *",
            "*Shop.add, and * goes on",
            "*shrunk   from * to 2 calls in * runs; the same in 5 of 5 replays",
            "*replay   pytest *test_the_cart_is_mine --ssot-replay=*",
        ]
    )


def test_a_leak_is_replayed_exactly(project: Project) -> None:
    first = project.test(shop(leaky=True) + TEST).run("--ssot-seed=1")
    (line,) = [line for line in first.outlines if "--ssot-replay=" in line]

    again = project.run(line.partition("pytest ")[2].split()[1])

    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(
        ["*shrunk   run as recorded; the same in 5 of 5 replays", "*checked *: 1 program, 2 calls*"]
    )


def test_users_who_wait_for_each_other_are_told_at_once(project: Project) -> None:
    result = project.test(
        """
        import asyncio
        import pytest

        @pytest.fixture
        def locks():
            return [asyncio.Lock(), asyncio.Lock()]

        @pytest.mark.concurrency(users=2)
        async def test_transfer(locks):
            locks.reverse()
            first, second = locks
            async with first:
                await asyncio.sleep(0)
                async with second:
                    pass
        """
    ).run("--ssot-seed=1")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*LEAK  availability  alice is refused or held up because of bob*",
            "*Deadlock: no task can go on, and nothing outside is due.",
            "*alice: waits on a lock that another task holds, at",
            "*test_it.py:14 in test_transfer",
        ]
    )


def test_the_canary_of_another_user_fails_the_test(project: Project) -> None:
    result = project.test(
        """
        import asyncio
        import pytest

        @pytest.fixture
        def board():
            return {}

        @pytest.mark.concurrency(users=2)
        async def test_my_note(board, canaries):
            board["note"] = canaries.mint()
            await asyncio.sleep(0)
            canaries.saw(board["note"])
        """
    ).run("--ssot-seed=1")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LEAK  canary  * saw what * wrote, in test"])


def test_what_the_author_resets_is_fresh_in_each_interleaving(project: Project) -> None:
    source = """
        import pytest

        @pytest.fixture
        def visits():
            return []

        def clear(visits):
            visits.clear()

        @pytest.mark.concurrency(users=2, examples=20{reset})
        async def test_two_visits_at_most(visits, user_context):
            visits.append(user_context)
            assert len(visits) <= 2
        """

    project.test(source.format(reset=", reset=clear")).run().assert_outcomes(passed=1)
    project.test(source.format(reset="")).run().assert_outcomes(failed=1)


def test_a_fixture_that_hangs_on_one_user_is_refused_with_the_remedy(project: Project) -> None:
    result = project.test(
        """
        import pytest

        @pytest.fixture
        def cart(user_context):
            return []

        @pytest.mark.concurrency
        async def test_my_cart(cart):
            pass
        """
    ).run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_my_cart runs once for each user, and its fixture 'cart' depends on 'user_context'*",
            "*To fix this, make 'cart' a factory*",
        ]
    )


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("concurrency(user=4)", "@pytest.mark.concurrency knows no 'user'."),
        ("concurrency(users=1)", "users=1 cannot be used."),
        ("concurrency(faults='explode')", "faults: 'explode' is not known."),
    ],
)
def test_a_marker_that_cannot_be_used(project: Project, marker: str, said: str) -> None:
    result = project.test(
        f"""
        import pytest

        @pytest.mark.{marker}
        async def test_nothing():
            pass
        """
    ).run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{said}*", "*To fix this*"])


def test_a_test_that_is_no_coroutine_is_told(project: Project) -> None:
    result = project.test(
        """
        import pytest

        @pytest.mark.concurrency
        def test_nothing():
            pass
        """
    ).run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_nothing carries @pytest.mark.concurrency but is no `async def` test."])
