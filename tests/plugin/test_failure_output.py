"""What a person sees in the terminal when a check finds a leak."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

LEAKY = """
from pytest_ssot_isolation import Surface, keys, operation, secrets

class Notes(Surface):
    @operation(title=keys(), body=secrets())
    async def write(self, title, body):
        self.world[title] = body

    @operation(title=keys())
    async def read(self, title):
        return self.world.get(title)

def test_notes_stay_with_their_owner(isolation):
    isolation.check(Notes, world=dict, examples=3, seed=1)
"""
AWAITED = """
import asyncio

async def check(isolation):
    await isolation.check_async(Notes, world=dict, examples=3, seed=1)

def test_notes_stay_with_their_owner(isolation):
    asyncio.run(check(isolation))
"""


def test_a_planted_leak_is_told_as_a_story_with_its_replay(project: Project) -> None:
    result = project.test(LEAKY).run()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">   *isolation.check(Notes, world=dict, examples=3, seed=1)",
            "E  *LEAK  canary  bob saw what alice wrote, in read",
            "E  *alice  *bob",
            "E  * 0  write(*<canary alice#*>)*",
            "E  *> 1  *read(*",
            "E  *saw <canary alice#*>",
            "E  *why * shows <canary alice#*>, a secret made up for alice*",
            "E  *shrunk *",
            "E  *replay   pytest *test_notes_stay_with_their_owner --ssot-replay=*",
        ]
    )


@pytest.mark.parametrize(
    "source", [LEAKY, LEAKY.partition("def test")[0] + AWAITED], ids=["check", "check_async"]
)
def test_the_traceback_shows_the_test_and_nothing_of_ours(project: Project, source: str) -> None:
    result = project.test(source).run()

    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*harness.py:*")
    result.stdout.no_fnmatch_line("*concurrent/futures*")


def test_the_summary_does_not_tell_the_story_again(project: Project) -> None:
    result = project.test(LEAKY).run()

    told = [line for line in result.stdout.lines if "--ssot-replay=" in line]
    assert len(told) == 1
    result.stdout.fnmatch_lines(
        [
            "*= isolation =*",
            "LEAK  *test_notes_stay_with_their_owner: canary: bob saw what alice wrote, in read",
        ]
    )
