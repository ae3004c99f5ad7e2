"""``loop="pytest-asyncio"``: a test and its fixtures in one gate loop, and every other test as it was."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

SHOP = """
import asyncio
import pytest
import pytest_asyncio
from pytest_ssot_isolation import Surface, keys, operation, secrets

class Shop:
    '''Belongs to the loop in which it was made.'''

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.current, self.carts = None, {}

    async def add(self, user, what):
        assert asyncio.get_running_loop() is self.loop, "another loop"
        self.current = user
        await asyncio.sleep(0)
        self.carts.setdefault((self.current if LEAKY else user, what), []).append(what)

@pytest_asyncio.fixture
async def shop():
    await asyncio.sleep(0)
    yield Shop()
    await asyncio.sleep(0)
"""
TOGETHER = """
@pytest.mark.concurrency(users=3, examples=50, loop="pytest-asyncio")
async def test_the_cart_is_mine(shop, user_context):
    await shop.add(user_context, "book")
    assert (user_context, "book") in shop.carts
"""
CHECKED = """
class Carts(Surface):
    @operation(title=keys(), body=secrets())
    async def add(self, title, body):
        await self.world.add(self.user.user_id, title)
        self.world.carts[self.world.current if LEAKY else self.user.user_id, title] = body

    @operation(title=keys())
    async def read(self, title):
        await asyncio.sleep(0)
        return self.world.carts.get((self.user.user_id, title))

@pytest.mark.asyncio
@pytest.mark.isolation(loop="pytest-asyncio")
async def test_carts_stay_apart(isolation, shop):
    await isolation.check_async(Carts, world=lambda: shop, reset=lambda s: s.carts.clear(), examples=60)
"""
FOREIGN = """
import asyncio
import pytest

@pytest.mark.asyncio
@pytest.mark.parametrize("n", [1, 2])
async def test_foreign(n):
    assert type(asyncio.get_running_loop()).__name__ == EXPECTED
"""


def with_files(project: Project, **sources: str) -> Project:
    for name, source in sources.items():
        project.file(f"{name}.py", dedent(source))
    return project


MODES = pytest.mark.parametrize("mode", ["strict", "auto"])


@MODES
@pytest.mark.parametrize("test", [TOGETHER, CHECKED], ids=["concurrency", "check_async"])
def test_users_meet_in_what_a_fixture_made_in_its_own_loop(project: Project, mode: str, test: str) -> None:
    clean = with_files(project, test_shop=f"LEAKY = False\n{SHOP}{test}")
    clean.run("-o", f"asyncio_mode={mode}", "--ssot-seed=1").assert_outcomes(passed=1)

    leaky = with_files(project, test_shop=f"LEAKY = True\n{SHOP}{test}")
    result = leaky.run("-o", f"asyncio_mode={mode}", "--ssot-seed=1")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*another loop*")


def test_without_it_the_fixtures_loop_is_another(project: Project) -> None:
    test = TOGETHER.replace(', loop="pytest-asyncio"', "")
    result = with_files(project, test_shop=f"LEAKY = False\n{SHOP}{test}").run("--ssot-seed=1")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*another loop*"])


@MODES
def test_a_foreign_asyncio_suite_beside_it_is_as_it_was(project: Project, mode: str) -> None:
    expected = "EXPECTED = '_UnixSelectorEventLoop'\n"
    both = with_files(
        project,
        test_a=expected + FOREIGN,
        test_shop=f"LEAKY = False\n{SHOP}{TOGETHER}{CHECKED}",
        test_z=expected + FOREIGN,
    )
    result = both.run("-v", "-o", f"asyncio_mode={mode}", "--ssot-seed=1")

    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(
        ["*test_a.py::test_foreign?1? PASSED*", "*test_z.py::test_foreign?2? PASSED*"]
    )


def test_a_suite_with_loops_of_its_own_keeps_them_and_its_names(project: Project) -> None:
    hook = """
        import asyncio

        class Own(asyncio.SelectorEventLoop):
            pass

        def pytest_asyncio_loop_factories(config, item):
            return {"own": Own, "other": Own}
    """
    both = with_files(
        project,
        conftest=hook,
        test_a=f"EXPECTED = 'Own'\n{FOREIGN}",
        test_shop=f"LEAKY = False\n{SHOP}{TOGETHER}",
    )
    result = both.run("-v", "--ssot-seed=1")

    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(
        ["*test_foreign*own*", "*test_the_cart_is_mine?own?*", "*test_the_cart_is_mine?other?*"]
    )


def test_tests_of_anyio_beside_it_are_as_they_were(project: Project) -> None:
    pytest.importorskip("anyio")
    theirs = """
        import anyio
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_theirs(isolation):
            await anyio.sleep(0)
    """
    both = with_files(project, test_a=theirs, test_shop=f"LEAKY = False\n{SHOP}{TOGETHER}")
    both.run("--ssot-seed=1", "-p", "anyio").assert_outcomes(passed=2)


def test_another_loop_is_refused_by_name(project: Project) -> None:
    test = TOGETHER.replace("pytest-asyncio", "trio")
    result = with_files(project, test_shop=f"LEAKY = False\n{SHOP}{test}").run()

    result.stdout.fnmatch_lines(
        ["*loop='trio' is not known.*", "*To fix this, write loop='pytest-asyncio', or leave it out*"]
    )


def test_without_the_hook_the_plugin_loads_and_says_where_it_is_needed(project: Project) -> None:
    result = with_files(project, test_shop=f"LEAKY = False\n{SHOP}{TOGETHER}").run_alone()

    result.stdout.fnmatch_lines(
        ["*loop='pytest-asyncio' needs a pytest-asyncio that asks for loop factories*"]
    )
