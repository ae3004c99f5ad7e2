"""One piece of the quality table: a hunt for one leak, or a look at one safe twin, in a process of its own kind."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import util
from pathlib import Path
from typing import Any, Literal

from pytest_ssot_isolation.model.verdict import Verdict

from .exhibits import TABLE, Row, read_zoo
from .hunt import check
from .servers import Servers

ROOT = Path(__file__).parents[2]
Kind = Literal["hunt", "twin"]


@dataclass(frozen=True, slots=True)
class Task:
    """What one process does at a time.

    Attributes:
        kind: ``"hunt"`` for the leak, ``"twin"`` for the safe application.
        row: Name of the row.
        seed: Of the check.
    """

    kind: Kind
    row: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one task came to.

    Attributes:
        kind: See ``Task``.
        row: Name of the row.
        seed: Of the check.
        profile: Of the check.
        code: Names the state of package and zoo; results of another state do not count.
        verdict: Of the check.
        oracle: Of the finding, rather one that the table names for the row; empty without one.
        examples: Programs that were run: to the first finding, or on the safe twin.
        calls: In the reduced history of the finding, or all that were run on the safe twin.
        findings: How many; on a safe twin each is a false alarm.
        seconds: That it took.
        server: The server that was used, in a line; empty without one.
        problem: What went wrong otherwise, or why the check is inconclusive; empty where nothing did.
    """

    kind: Kind
    row: str
    seed: int
    profile: str
    code: str
    verdict: str = ""
    oracle: str = ""
    examples: int = 0
    calls: int = 0
    findings: int = 0
    seconds: float = 0.0
    server: str = ""
    problem: str = ""

    @property
    def task(self) -> Task:
        """What was to be done."""
        return Task(self.kind, self.row, self.seed)

    @property
    def is_found(self) -> bool:
        """Whether the check told a leak, by whichever oracle: the table says by which."""
        return self.verdict == Verdict.LEAK.value

    @property
    def is_good(self) -> bool:
        """Whether the leak was found, or the twin is clean."""
        return self.is_found if self.kind == "hunt" else self.verdict == Verdict.CLEAN.value


def state_of_the_code() -> str:
    """Name the state of the package and the zoo, but for the modules that only count and print."""
    digest = hashlib.sha256(TABLE.read_bytes())
    for folder in (ROOT / "pytest_ssot_isolation", ROOT / "tests" / "zoo"):
        for path in sorted(folder.rglob("*.py")):
            if not path.name.startswith(("quality", "test_")):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Kept:
    """The file of results, a line each, so that an interrupted run goes on where it ended.

    Args:
        path: Of the file.
        code: Only results of this state count.
        profiles: Only those of these profiles do.
        hunts_of: Another state whose hunts count instead.
    """

    def __init__(
        self, path: Path, *, code: str, profiles: Mapping[Kind, str], hunts_of: str | None = None
    ) -> None:
        self._path = path
        self._code = {"hunt": hunts_of or code, "twin": code}
        self._profiles = profiles

    def read(self) -> dict[Task, Result]:
        """What is known."""
        if not self._path.exists():
            return {}
        lines = [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]
        results = [Result(**line) for line in lines if "kind" in line]
        same = [r for r in results if r.code == self._code[r.kind] and r.profile == self._profiles[r.kind]]
        return {result.task: result for result in same}

    def add(self, result: Result) -> None:
        """Append a result."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")


# -- in the process that does it ---------------------------------------------------------------------


@dataclass(slots=True)
class _Desk:
    """What a process keeps from task to task."""

    rows: dict[str, Row]
    servers: Servers


_desks: list[_Desk] = []


def begin() -> None:
    """Make a process ready: it keeps its servers until it ends, and leaves Ctrl-C to the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    until_the_end = ExitStack()
    util.Finalize(None, until_the_end.close, exitpriority=10)  # `atexit` is not asked in such a process.
    _desks.append(_Desk({row.name: row for row in read_zoo()}, Servers(until_the_end)))


def perform(task: Task, profile: str, code: str, programs: int | None = None) -> Result:
    """Do it, and say what came out; what goes wrong is told in the result."""
    desk = _desks[0]
    row = desk.rows[task.row]
    plain: dict[str, Any] = {**asdict(task), "profile": profile, "code": code}
    began = time.monotonic()
    try:
        with desk.servers.database(row) as database:
            plain |= _measure(row, task, profile, database, programs)
    except Exception as error:
        # The table tells of it: one broken row must not take the others away.
        plain["problem"] = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
    plain["seconds"] = round(time.monotonic() - began, 2)
    return Result(**plain, server=desk.servers.line(row))


def _measure(row: Row, task: Task, profile: str, database: Any, programs: int | None) -> dict[str, Any]:
    is_hunt = task.kind == "hunt"
    options: dict[str, Any] = {"stop_at_first": is_hunt}
    if is_hunt and programs is not None:
        options["examples"] = programs
    report = check(row, leaky=is_hunt, seed=task.seed, database=database, profile=profile, **options)
    made: dict[str, Any] = {
        "verdict": report.verdict.value,
        "examples": report.examples,
        "calls": report.calls,
        "findings": len(report.findings),
    }
    if report.verdict is Verdict.INCONCLUSIVE:
        made["problem"] = "; ".join(report.reasons)[:200]
    if report.findings:
        meant = [finding for finding in report.findings if finding.oracle in row.oracles]
        told = (meant or report.findings)[0]
        made["oracle"] = told.oracle
        if is_hunt:
            made["calls"] = len(told.calls)
        else:
            made["problem"] = told.explanation[:200]
    return made
