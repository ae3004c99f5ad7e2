"""Replaying a leak: from the line that the report prints, from the kept file, and as a test of its own."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from pytest_ssot_isolation import Surface, operation
from pytest_ssot_isolation.engine.record import Recording, parse, restore
from pytest_ssot_isolation.engine.reduce import Example
from pytest_ssot_isolation.engine.script import Script
from pytest_ssot_isolation.generation.casts import CastPlan
from pytest_ssot_isolation.model.program import Call, Program
from pytest_ssot_isolation.model.schedule import Schedule

LEAKY = """
    import asyncio
    import pytest
    from pytest_ssot_isolation import Surface, keys, operation, secrets

    class Service:
        def __init__(self):
            self.notes, self.current = {}, ""

        async def write(self, user, title, body):
            self.notes[user, title] = body

        async def read(self, user, title):
            self.current = user
            await asyncio.sleep(0)
            return self.notes.get((self.current, title))

    class Notes(Surface):
        @operation(title=keys(), body=secrets())
        async def write(self, title, body):
            await self.world.write(self.user.user_id, title, body)

        @operation(title=keys())
        async def read(self, title):
            return await self.world.read(self.user.user_id, title)

    def test_isolated(isolation):
        isolation.check(Notes, world=Service, examples=60, oracles=["canary"], stop_at_first=True)
"""


class Actor(Surface[None]):
    @operation
    async def act(self) -> None:
        pass


@pytest.fixture
def leaky(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_notes=LEAKY)
    pytester.makeini(
        "[pytest]\naddopts = -p ssot_isolation -p asyncio\nasyncio_default_fixture_loop_scope = function\n"
    )
    return pytester


def kept(pytester: pytest.Pytester) -> list[Path]:
    return sorted((pytester.path / ".ssot").glob("*.json"))


def canary_file(pytester: pytest.Pytester) -> Path:
    return next(path for path in kept(pytester) if json.loads(path.read_text())["finding"][0] == "canary")


def test_the_line_that_the_report_prints_shows_the_leak_again(leaky: pytest.Pytester) -> None:
    first = leaky.runpytest_subprocess("--ssot-seed=3")
    first.assert_outcomes(failed=1)
    command = re.search(r"pytest (test_notes\.py::test_isolated) (--ssot-replay=\S+)", first.stdout.str())
    assert command is not None

    again = leaky.runpytest_subprocess(*command.groups())

    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*LEAK*"])


def test_the_line_is_for_the_folder_in_which_pytest_was_called(
    leaky: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = leaky.mkdir("orders")
    (leaky.path / "test_notes.py").rename(folder / "test_notes.py")
    monkeypatch.chdir(folder)

    first = leaky.runpytest_subprocess()
    command = re.search(r"pytest (\S+::test_isolated) (--ssot-replay=\S+)", first.stdout.str())

    assert command is not None
    assert command[1] == "test_notes.py::test_isolated"
    again = leaky.runpytest_subprocess(command[1], command[2])
    again.assert_outcomes(failed=1)


def test_a_new_process_with_another_hash_seed_takes_the_same_steps(
    leaky: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaky.runpytest_subprocess("--ssot-seed=3").assert_outcomes(failed=1)
    file = canary_file(leaky)

    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        again = leaky.runpytest_subprocess("test_notes.py", f"--ssot-replay={file}")
        again.assert_outcomes(failed=1)
        again.stdout.no_fnmatch_line("*ReplayMismatch*")


def test_a_mended_application_passes_the_replay_or_says_that_it_takes_other_steps(
    leaky: pytest.Pytester,
) -> None:
    leaky.runpytest_subprocess("--ssot-seed=3").assert_outcomes(failed=1)
    file = canary_file(leaky)
    leaky.makepyfile(
        test_notes=LEAKY.replace("self.notes.get((self.current, title))", "self.notes.get((user, title))")
    )

    again = leaky.runpytest_subprocess("test_notes.py", f"--ssot-replay={file}")

    again.assert_outcomes(passed=1)


def test_what_failed_is_run_first_next_time(leaky: pytest.Pytester) -> None:
    leaky.runpytest_subprocess("--ssot-seed=3").assert_outcomes(failed=1)

    again = leaky.runpytest_subprocess("--ssot-seed=4", "--ssot-report=again.json", "-k", "isolated")

    again.assert_outcomes(failed=1)
    (report,) = json.loads((leaky.path / "again.json").read_text())["reports"]
    assert "of 5 replays" in report["findings"][0]["shrunk"]
    assert len(kept(leaky)) >= 1


def test_the_command_writes_a_test_that_reproduces_the_leak_without_drawing(
    leaky: pytest.Pytester,
) -> None:
    leaky.runpytest_subprocess("--ssot-seed=3").assert_outcomes(failed=1)
    written = leaky.path / "test_leak.py"

    result = leaky.run(
        sys.executable,
        "-m",
        "pytest_ssot_isolation",
        "replay",
        str(canary_file(leaky)),
        "--write-test",
        str(written),
    )
    assert result.ret == 0
    text = written.read_text()
    assert "A leak found by the canary oracle." in text
    assert "write(.notes., <canary" in text.replace("'", ".")

    again = leaky.runpytest_subprocess("test_leak.py")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["LEAK*test_leak_*canary: *"])


BESIDE_OTHERS = """
    import asyncio
    import pytest

    CURRENT = {}

    @pytest.fixture
    def test_data():
        return CURRENT

    class TestOther:
        def test_too(self):
            pass

    def test_other():
        pass

    @pytest.mark.concurrency(users=2)
    async def test_current(user_context, test_data):
        test_data["user"] = user_context.user_id
        await asyncio.sleep(0)
        assert test_data["user"] == user_context.user_id
"""


def test_a_plain_test_becomes_a_written_one_too_without_the_others_of_its_module(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_marked=BESIDE_OTHERS)
    pytester.makeini("[pytest]\naddopts = -p ssot_isolation\n")
    pytester.runpytest_subprocess("--ssot-seed=3").assert_outcomes(passed=2, failed=1)
    (file,) = kept(pytester)
    written = pytester.path / "test_leak.py"
    command = ("-m", "pytest_ssot_isolation", "replay", str(file), "--write-test", str(written))
    assert pytester.run(sys.executable, *command).ret == 0

    again = pytester.runpytest_subprocess("test_leak.py")

    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*run as recorded*"])


def test_the_line_keeps_where_steps_shared_a_tick() -> None:
    schedule = Schedule(together=((0, 0, 1), (1, 1, 2)), in_flight=((0, 0, 1),))
    script = Script(
        number=0,
        program=Program(calls=(Call(0, 0, "act"), Call(1, 1, "act"))),
        surfaces=(Actor, Actor),
        plan=CastPlan(ids="plain", count=2),
        serial=1,
    )
    recording = Recording(example=Example(script, schedule), seed=1, trace=((0, 0), (1, 0)))

    again = restore(parse(recording.to_text()), (Actor,))

    assert again.example.schedule == schedule
    assert again.ran_alike(recording.trace)


def test_a_text_that_is_cut_says_what_to_copy(leaky: pytest.Pytester) -> None:
    result = leaky.runpytest_subprocess("--ssot-replay=v1.eJyrVkrOz0tVsq")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*The recorded example cannot be read*", "*copy the whole text after --ssot-replay=*"]
    )


def test_a_recording_of_another_surface_is_refused(leaky: pytest.Pytester) -> None:
    leaky.runpytest_subprocess("--ssot-seed=3").assert_outcomes(failed=1)
    file = canary_file(leaky)
    leaky.makepyfile(test_notes=LEAKY.replace("Notes", "Papers"))

    again = leaky.runpytest_subprocess("test_notes.py", f"--ssot-replay={file}")

    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*was recorded with the surface Notes, and the check has Papers*"])
