"""``python -m tests.zoo.quality``: hunts each leak of the zoo under many seeds, and writes docs/quality.md.

Each leak is hunted under each seed until its first finding. Then the safe twins are checked in turn, each check
as long as the profile allows, until so many calls were clean. Results are kept in a file as they come, so a run
that was interrupted goes on where it ended when it is started again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import pytest_ssot_isolation

from .exhibits import Row, read_zoo
from .quality_page import Facts, Tally, render
from .quality_work import ROOT, Kept, Kind, Result, Task, begin, perform, state_of_the_code
from .servers import REDIS, WHY_NO_REDIS

PAGE = ROOT / "docs" / "quality.md"
RESULTS = ROOT / ".ssot" / "zoo.jsonl"
SEEDS = 20
CLEAN_CALLS = 1_000_000
PROCESSES = min(2, os.cpu_count() or 1)


class Plan:
    """Says what is to be done next: first all hunts, then twins until enough calls were clean.

    Args:
        rows: Of the zoo.
        seeds: For each hunt; twins go on counting from the first.
        clean_calls: That are asked of all safe twins together; each is checked once at least. None: no twins.
        known: What was measured before.
    """

    def __init__(
        self, rows: Sequence[Row], seeds: Sequence[int], *, clean_calls: int | None, known: dict[Task, Result]
    ) -> None:
        wanted = {row.name for row in rows}
        self.results = {
            task: result
            for task, result in known.items()
            if task.row in wanted and (task.kind == "twin" or task.seed in seeds)
        }
        self._clean_calls = clean_calls
        self._tasks = self._draw(rows, seeds)

    def take(self, result: Result) -> None:
        """Note what a task came to."""
        self.results[result.task] = result

    def tasks(self) -> Iterator[Task]:
        """What is not known yet."""
        return (task for task in self._tasks if task not in self.results)

    @property
    def clean(self) -> int:
        """Calls so far."""
        return sum(r.calls for r in self.results.values() if r.kind == "twin" and r.is_good)

    def _draw(self, rows: Sequence[Row], seeds: Sequence[int]) -> Iterator[Task]:
        # Rows that need a server first: what takes long should not be left for the end.
        ordered = sorted(rows, key=lambda row: not row.needs)
        for row in ordered:
            for seed in seeds:
                yield Task("hunt", row.name, seed)
        if self._clean_calls is None:
            return
        seed = seeds[0]
        for row in ordered:
            yield Task("twin", row.name, seed)
        # With a server a check is a few hundred calls, so the many are left to those without.
        many = [row for row in ordered if not row.needs] or ordered
        before = -1
        while before < self.clean < self._clean_calls:
            before = self.clean
            seed += 1
            for row in many:
                if self.clean < self._clean_calls:
                    yield Task("twin", row.name, seed)


def work(
    plan: Plan,
    *,
    processes: int,
    profiles: Mapping[Kind, str],
    code: str,
    keep: Callable[[Result], None],
    tell: Callable[[Result], None],
    until: float,
    programs: int | None = None,
) -> None:
    """Do what is planned, in several processes, until a moment of the monotonic clock."""
    tasks = plan.tasks()
    waiting: list[Task] = []
    broke: set[Task] = set()
    while True:
        running: dict[Future[Result], Task] = {}
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=spawn, initializer=begin) as pool:
            try:
                while True:
                    while len(running) < processes and time.monotonic() < until:
                        task = waiting.pop() if waiting else next(tasks, None)
                        if task is None:
                            break
                        running[pool.submit(perform, task, profiles[task.kind], code, programs)] = task
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        del running[future]
                        plan.take(result)
                        keep(result)
                        tell(result)
            except BrokenProcessPool:
                # A process died; whose task it was is not told, so each gets a second chance.
                for task in running.values():
                    if task in broke:
                        lost = Result(
                            kind=task.kind, row=task.row, seed=task.seed, profile=profiles[task.kind], code=code,
                            problem="its process died, twice",
                        )  # fmt: skip
                        plan.take(lost)
                        tell(lost)
                    else:
                        broke.add(task)
                        waiting.append(task)


class Progress:
    """Prints a line for each row when its hunts are done, and one for each twin that is not clean.

    Args:
        plan: Whose results it tells.
        rows: Of the zoo.
        seeds: How many hunts a row has.
    """

    def __init__(self, plan: Plan, rows: Sequence[Row], seeds: int) -> None:
        self._plan = plan
        self._rows = {row.name: row for row in rows}
        self._seeds = seeds
        self._began = time.monotonic()

    def tell(self, result: Result) -> None:
        """Print what is worth it."""
        of_row = [r for r in self._plan.results.values() if r.row == result.row]
        hunts = [r for r in of_row if r.kind == "hunt"]
        if not result.is_good or (result.kind == "hunt" and len(hunts) == self._seeds):
            minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
            print(f"{minutes:3}:{seconds:02} {Tally(self._rows[result.row], of_row).line()}", flush=True)


def parser() -> argparse.ArgumentParser:
    """What may be asked."""
    asked = argparse.ArgumentParser(prog="python -m tests.zoo.quality", description=__doc__)
    add = asked.add_argument
    add("--seeds", type=int, default=SEEDS, help=f"hunts a row, each with its own seed ({SEEDS})")
    add("--first-seed", type=int, default=1, help="the first of them (1)")
    add("--clean-calls", type=int, default=CLEAN_CALLS, help=f"of all safe twins together ({CLEAN_CALLS:,})")
    add("--programs", type=int, help="of each hunt, however long they take (as many as the profile allows)")
    add(
        "--again",
        type=int,
        default=0,
        help="further seeds for what was missed; found then, it passes and is told (0)",
    )
    add("--rows", default="*", metavar="PATTERN", help="names of rows, as a shell pattern")
    add("--needs", choices=("nothing", "postgres", "clickhouse", "redis"), help="rows that need this")
    add("--profile", default="default", choices=("quick", "default", "deep"))
    add("--twin-profile", choices=("quick", "default", "deep"), help="of the safe twins, where it is another")
    add("--processes", type=int, default=PROCESSES, help=f"that work side by side ({PROCESSES})")
    add("--minutes", type=float, help="begin nothing after so many; the page tells of what was measured")
    add("--fresh", action="store_true", help="measure again what was measured before")
    add("--hunts-of", metavar="STATE", help="count the hunts of this state of the code; the page says so")
    add("--results", type=Path, default=RESULTS, help="keeps what was measured (.ssot/zoo.jsonl)")
    add("--output", type=Path, default=PAGE, help="the page (docs/quality.md)")
    return asked


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the page; 1 where a leak was missed or a safe twin was not clean."""
    given = parser()
    asked = given.parse_args(arguments)
    rows = [
        row
        for row in read_zoo()
        if fnmatch(row.name, asked.rows) and (asked.needs is None or (row.needs or "nothing") == asked.needs)
    ]
    if not rows:
        given.error(f"no row is named like {asked.rows!r}")
    missing = [row.name for row in rows if row.needs == "redis"] if shutil.which(REDIS) is None else []
    rows = [row for row in rows if row.name not in missing]
    if missing:
        print(f"DID NOT RUN: {', '.join(missing)}: {WHY_NO_REDIS}", flush=True)
    began = time.monotonic()
    code = state_of_the_code()
    profiles: dict[Kind, str] = {"hunt": asked.profile, "twin": asked.twin_profile or asked.profile}
    kept = Kept(asked.results, code=code, profiles=profiles, hunts_of=asked.hunts_of)
    known = {} if asked.fresh else kept.read()
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    plan = Plan(rows, seeds, clean_calls=asked.clean_calls, known=known)
    earlier = len(plan.results)
    do = partial(
        work,
        processes=asked.processes,
        profiles=profiles,
        code=code,
        keep=kept.add,
        programs=asked.programs,
        until=began + 60 * asked.minutes if asked.minutes is not None else float("inf"),
    )
    do(plan, tell=Progress(plan, rows, asked.seeds).tell)
    results = list(plan.results.values())
    excused = found_later(rows, results, seeds, asked.again, do)
    duration = lasted(results, time.monotonic() - began, earlier=earlier, processes=asked.processes)
    facts = Facts(
        at=datetime.now(UTC),
        version=pytest_ssot_isolation.__version__,
        python=sys.version.partition(" ")[0],
        profile=" and ".join(dict.fromkeys(profiles.values())),
        seeds=asked.seeds,
        command=f"python -m tests.zoo.quality --seeds {asked.seeds} --clean-calls {asked.clean_calls}",
        duration=duration,
        states=(asked.hunts_of or code, code),
        not_run=missing,
    )
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(render(rows, results, facts), encoding="utf-8")
    print(f"written: {asked.output}\n{duration}")
    bad = [result for result in results if not result.is_good]
    for result in bad:
        found = excused.get(result.row) if result.kind == "hunt" else None
        line = f"{result.kind} {result.row} seed {result.seed} {result.verdict} {result.problem}".rstrip()
        print(f"not good: {line}" + (f", but found under seed {found}" if found is not None else ""))
    hunted = sum(result.kind == "hunt" for result in results)
    bad = [result for result in bad if result.kind == "twin" or result.row not in excused]
    return 1 if bad or hunted < len(rows) * asked.seeds or plan.clean < asked.clean_calls else 0


def found_later(
    rows: Sequence[Row], results: Sequence[Result], seeds: range, again: int, do: Callable[..., None]
) -> dict[str, int]:
    """Hunt what was missed under further seeds, so that a table of one seed does not fail by bad luck.

    Returns:
        For each row that was found then, the seed.
    """
    found: dict[str, int] = {}
    missed = {result.row for result in results if result.kind == "hunt" and not result.is_good}
    for seed in range(seeds.stop, seeds.stop + again):
        left = [row for row in rows if row.name in missed - found.keys()]
        if not left:
            break
        plan = Plan(left, (seed,), known={}, clean_calls=None)
        do(plan, tell=lambda _: None)
        found |= {result.row: seed for result in plan.results.values() if result.is_good}
    return found


def lasted(results: Sequence[Result], seconds: float, *, earlier: int, processes: int) -> str:
    """How long it took, in words."""

    def minutes(value: float) -> str:
        return f"{int(value // 60)} min {int(value % 60)} s"

    hunts = sum(result.seconds for result in results if result.kind == "hunt")
    twins = sum(result.seconds for result in results if result.kind == "twin")
    resumed = f", with {earlier} results of earlier runs" if earlier else ""
    return (
        f"Took {minutes(seconds)} in {processes} processes{resumed}; hunts {minutes(hunts)} and safe twins "
        f"{minutes(twins)} one after another."
    )


if __name__ == "__main__":
    raise SystemExit(main())
