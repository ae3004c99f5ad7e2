"""``python -m tests.zoo.quality``: hunts each leak of the zoo under many seeds, and writes docs/quality.md."""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest_ssot_isolation
from pytest_ssot_isolation.model.verdict import Verdict

from .exhibits import TABLE, Row, read_zoo
from .hunt import check

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "quality.md"
RESULTS = ROOT / ".ssot" / "zoo.jsonl"
SEEDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one row came to under one seed.

    Attributes:
        row: Its name.
        seed: Of both checks.
        profile: Of both checks.
        code: Names the state of package and zoo; results of another state do not count.
        found: Whether the leak was found by the oracle meant for it.
        oracle: The oracle of the first finding; empty without one.
        examples: Programs to the first finding.
        calls: Calls in its reduced history.
        seconds: That the hunt took.
        clean_verdict: Of the safe twin.
        clean_calls: Calls that were run on the safe twin.
        false_alarms: Findings on the safe twin.
        problem: What went wrong otherwise; empty where nothing did.
    """

    row: str
    seed: int
    profile: str
    code: str
    found: bool = False
    oracle: str = ""
    examples: int = 0
    calls: int = 0
    seconds: float = 0.0
    clean_verdict: str = ""
    clean_calls: int = 0
    false_alarms: int = 0
    problem: str = ""


class Servers:
    """The servers that the rows need, each started when it is first asked for."""

    def __init__(self, until_the_end: ExitStack) -> None:
        from pytest_ssot_isolation.options import Settings
        from pytest_ssot_isolation.provisioning import servers
        from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

        self.lines: list[str] = []
        timeouts = DatabaseTimeoutConfig.for_environment("local")
        self._server = servers.on_first_use(Settings(), timeouts, until_the_end, tell=self.lines.append)

    @contextmanager
    def database(self, row: Row) -> Iterator[Any]:
        """An empty database, where the row needs one."""
        if not row.needs:
            yield None
            return
        with self._server(row.needs).new_database() as database:
            yield database


def state_of_the_code() -> str:
    """Name the state of the package and the zoo."""
    digest = hashlib.sha256(TABLE.read_bytes())
    for folder in (ROOT / "pytest_ssot_isolation", ROOT / "tests" / "zoo"):
        for path in sorted(folder.rglob("*.py")):
            if path != Path(__file__):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def measure(row: Row, seed: int, *, profile: str, code: str, servers: Servers) -> Result:
    """Hunt the leak of a row, then look at its safe twin as long as the profile allows."""
    plain: dict[str, Any] = {"row": row.name, "seed": seed, "profile": profile, "code": code}
    began = time.monotonic()
    try:
        with servers.database(row) as database:
            leaky = check(row, leaky=True, seed=seed, database=database, profile=profile, stop_at_first=True)
        plain["seconds"] = round(time.monotonic() - began, 2)
        plain["examples"] = leaky.examples
        if leaky.verdict is Verdict.LEAK:
            meant = [finding for finding in leaky.findings if finding.oracle in row.oracles]
            told = (meant or list(leaky.findings))[0]
            plain |= {"found": bool(meant), "oracle": told.oracle, "calls": len(told.calls)}
        with servers.database(row) as database:
            safe = check(row, leaky=False, seed=seed, database=database, profile=profile)
        plain |= {
            "clean_verdict": safe.verdict.value,
            "clean_calls": safe.calls,
            "false_alarms": len(safe.findings),
        }
    except Exception as error:
        # The table tells of it: one broken row must not take the others away.
        plain["problem"] = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
    return Result(**plain)


def kept(code: str, profile: str) -> dict[tuple[str, int], Result]:
    """Results of earlier runs of the same state, by row and seed."""
    if not RESULTS.exists():
        return {}
    results = (Result(**json.loads(line)) for line in RESULTS.read_text().splitlines())
    return {(r.row, r.seed): r for r in results if r.code == code and r.profile == profile}


def keep(result: Result) -> None:
    """Append a result, so that an interrupted run goes on where it ended."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(asdict(result)) + "\n")


def run(
    rows: Sequence[Row], seeds: Sequence[int], *, profile: str, fresh: bool, tell: Callable[[str], object]
) -> tuple[list[Result], list[str]]:
    """Measure what is not measured yet."""
    code = state_of_the_code()
    known = {} if fresh else kept(code, profile)
    results: list[Result] = []
    with ExitStack() as until_the_end:
        servers = Servers(until_the_end)
        for row in rows:
            for seed in seeds:
                result = known.get((row.name, seed))
                if result is None:
                    result = measure(row, seed, profile=profile, code=code, servers=servers)
                    keep(result)
                results.append(result)
            tell(line_of(row, [result for result in results if result.row == row.name]))
    return results, servers.lines


def line_of(row: Row, results: Sequence[Result]) -> str:
    """One row of the table."""
    found = [result for result in results if result.found]
    oracles = Counter(result.oracle for result in results if result.oracle)
    names = ", ".join(
        f"{name} {times}" if len(oracles) > 1 else name for name, times in oracles.most_common()
    )
    examples = [result.examples for result in found]
    calls = [result.calls for result in found]
    not_clean = Counter(
        result.problem or result.clean_verdict for result in results if result.clean_verdict != "clean"
    )
    cells = [
        f"{row.name}{' (deep)' if row.is_deep else ''}",
        str(row.family),
        row.needs or "nothing",
        f"{len(found)} of {len(results)}",
        f"{names or 'none'}{'' if not oracles or set(oracles) <= row.oracles else f' (meant: {row.oracle})'}",
        f"{statistics.median(examples):g}, {max(examples)}" if examples else "-",
        f"{statistics.median(calls):g} ({row.fewest_calls})" if calls else "-",
        f"{statistics.median(result.seconds for result in results):.1f}",
        f"{sum(result.clean_calls for result in results):,}",
        str(sum(result.false_alarms for result in results)),
        "; ".join(f"{what} {times}" for what, times in not_clean.items()),
    ]
    return "| " + " | ".join(cells) + " |"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def page(
    rows: Sequence[Row], results: Sequence[Result], *, seeds: int, profile: str, servers: Sequence[str]
) -> str:
    """The whole page."""
    now = datetime.now(UTC)
    of_row = {row.name: [result for result in results if result.row == row.name] for row in rows}
    found = [result for result in results if result.found]
    medians = [
        statistics.median(result.examples for result in of_row[row.name] if result.found)
        for row in rows
        if any(result.found for result in of_row[row.name])
    ]
    always = sum(all(result.found for result in of_row[row.name]) for row in rows)
    clean = sum(result.clean_calls for result in results)
    alarms = sum(result.false_alarms for result in results)
    unclear = sum(result.clean_verdict != "clean" for result in results)
    lines = [
        "# Quality",
        "",
        "How well planted leaks are found, and how often an application without one is accused. Written by",
        "`python -m tests.zoo.quality` (`tox -e zoo`); not edited by hand.",
        "",
        f"{now:%Y-%m-%d %H:%M} UTC, version {pytest_ssot_isolation.__version__}, Python "
        f"{sys.version.partition(' ')[0]}, profile `{profile}`, {seeds} seed{'s' if seeds != 1 else ''} a row.",
        *(f"Server: {line.partition(' (')[0]}." for line in servers),
        "",
        f"* Rows: {len(rows)}, in {len({row.family for row in rows})} families. Found under every seed by an "
        f"oracle that the table names for them: {always}.",
        f"* Hunts that found the leak: {len(found)} of {len(results)}.",
    ]
    if found:
        examples = [result.examples for result in found]
        lines += [
            f"* Examples to the first finding: median over the rows {statistics.median(medians):g}; the largest "
            f"median of a row {max(medians):g}; 95th percentile of all hunts {percentile(examples, 0.95):g}.",
            "* Calls in the reduced history, median over the rows: "
            + format(
                statistics.median(
                    statistics.median(result.calls for result in of_row[row.name] if result.found)
                    for row in rows
                    if any(result.found for result in of_row[row.name])
                ),
                "g",
            )
            + ".",
        ]
    lines += [
        f"* Safe twins: {clean:,} clean calls, {alarms} false alarms, {unclear} checks that were not clean.",
        "",
        "| leak | family | needs | found | by oracle | examples: median, worst | calls, median (fewest) "
        "| seconds, median | clean calls | false alarms | not clean |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(line_of(row, of_row[row.name]) for row in rows),
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the page; 1 where a leak was missed or a safe twin was not clean."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.quality", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds a row ({SEEDS})")
    parser.add_argument("--first-seed", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--rows", default="*", metavar="PATTERN", help="names of rows, as a shell pattern")
    parser.add_argument("--needs", choices=("nothing", "postgres", "clickhouse"), help="rows that need this")
    parser.add_argument("--profile", default="default", choices=("quick", "default", "deep"))
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page (docs/quality.md)")
    asked = parser.parse_args(arguments)
    rows = [
        row
        for row in read_zoo()
        if fnmatch(row.name, asked.rows) and (asked.needs is None or (row.needs or "nothing") == asked.needs)
    ]
    if not rows:
        parser.error(f"no row is named like {asked.rows!r}")
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    results, servers = run(rows, seeds, profile=asked.profile, fresh=asked.fresh, tell=print)
    asked.output.parent.mkdir(exist_ok=True)
    text = page(rows, results, seeds=asked.seeds, profile=asked.profile, servers=servers)
    asked.output.write_text(text, encoding="utf-8")
    print(f"written: {asked.output}")
    good = all(result.found and result.clean_verdict == "clean" for result in results)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
