"""What the source audit costs on a package of 500 modules: figures, printed with ``pytest -s``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_ssot_isolation.audit.definitions import read_canonical
from pytest_ssot_isolation.audit.probe import Probe
from pytest_ssot_isolation.audit.shared_state import RULES
from pytest_ssot_isolation.audit.sources import read_package
from pytest_ssot_isolation.audit.subject import Subject

MODULES = 500
IMPORTED = 60  # Of them, for the import part: each costs an interpreter, twice.

CLASS = '''
class Service{number}:
    """Serves one user."""

    kinds = ("plain", "other")

    def __init__(self, context, store):
        self.context = context
        self._store = store
        self._kept = {{}}

    async def read(self, title, *, limit=10):
        """Read one thing."""
        found = self._kept.get(title)
        if found is None:
            async with self._store.open(self.context) as connection:
                rows = await connection.fetch("SELECT title, body FROM thing WHERE title = $1", title)
            found = [dict(row) for row in rows[:limit]]
            self._kept[title] = found
        return found

    def drop(self, title):
        removed = self._kept.pop(title, None)
        return removed is not None
'''


def worked_by_children() -> float:
    """Processor time of all ended children, in seconds: it is the same beside other work, unlike the clock."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large")
    for number in range(MODULES):
        folder = root / "large_app" / f"part{number // 50}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
        imports = "import asyncio\nimport json\n"
        imports += "".join(
            f"from large_app.part{one // 50}.m{one} import Service{one}0\n"
            for one in {number // 2, number // 3, number - 1}
            if 0 <= one < number
        )
        text = imports + "".join(CLASS.format(number=f"{number}{part}") for part in range(5))
        (folder / f"m{number}.py").write_text(text)
    (root / "large_app" / "__init__.py").touch()
    return root


def test_seconds_for_the_static_part(large: Path, tmp_path: Path) -> None:
    subject = Subject(["large_app"], directory=tmp_path, roots=[large])
    (canonical,) = read_canonical(["large_app.part0.m7:Service70"])

    started = time.perf_counter()
    sources = read_package("large_app", [large])
    read = time.perf_counter() - started
    started, worked = time.perf_counter(), time.process_time()
    found = [subject.shared("large_app", rule) for rule in RULES]
    cycles = subject.cycles("large_app")
    definition = subject.definition(canonical)
    seconds, worked = time.perf_counter() - started, time.process_time() - worked

    lines = sum(source.path.read_bytes().count(b"\n") for source in sources)
    print(
        f"\nstatic part: {seconds:.2f} s for {len(sources)} modules of {lines:,} lines (reading: {read:.2f} s)"
    )
    assert (found, cycles, definition) == ([(), (), (), ()], (), ())
    assert not any(name.startswith("large_app") for name in sys.modules)


def test_imports_over_the_bare_sum_of_them(large: Path, tmp_path: Path) -> None:
    sources = [source for source in read_package("large_app", [large]) if not source.is_package][:IMPORTED]
    probe = Probe("large_app", sources, kept=tmp_path / "kept.json", path=[str(large)])
    environment = {**os.environ, "PYTHONPATH": str(large)}

    def bare(module: str) -> None:
        subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, check=True)

    for source in sources:  # byte code is written, once for both
        compile(source.path.read_bytes(), str(source.path), "exec")
    bare(sources[-1].module)
    started, worked = time.perf_counter(), worked_by_children()
    results = probe.alone()
    ours, ours_worked = time.perf_counter() - started, worked_by_children() - worked
    started = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(bare, [source.module for source in sources]))
    side_by_side = time.perf_counter() - started
    started, worked = time.perf_counter(), worked_by_children()
    for source in sources:
        bare(source.module)
    summed = (time.perf_counter() - started) / (os.cpu_count() or 1)
    bare_worked = worked_by_children() - worked
    started = time.perf_counter()
    again = Probe("large_app", sources, kept=tmp_path / "kept.json", path=[str(large)]).alone()
    kept = time.perf_counter() - started

    print(
        f"\nimport part: {ours:.2f} s for {len(sources)} modules; bare sum over {os.cpu_count()} cores {summed:.2f} s "
        f"(ratio {ours / summed:.2f}), bare side by side {side_by_side:.2f} s (ratio {ours / side_by_side:.2f}); "
        f"again, from what was kept: {kept:.2f} s; processor time of the interpreters {ours_worked:.2f} s, bare "
        f"{bare_worked:.2f} s (ratio {ours_worked / bare_worked:.2f})"
    )
    assert not any(result.errors for result in results.values())
    assert again == results
