"""Imports modules in fresh interpreters, many at a time, and keeps what came of it by file hash."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

try:
    import fcntl
except ImportError:  # Where there is none, workers do the same work twice, with the same result.
    fcntl = None  # type: ignore[assignment]

from pytest_ssot_isolation.audit.definitions import Place
from pytest_ssot_isolation.audit.sources import Source

_CHILD: Final = Path(__file__).with_name("probe_child.py")
_MARK: Final = "\n\x1essot"
_FORM: Final = 1  # Of the kept file: one of another form is thrown away.


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came of importing one or more modules in one fresh interpreter.

    Attributes:
        seconds: Time that all of it took, in seconds, what it imports in turn included.
        own: Time spent in modules of the audited package alone, in seconds.
        errors: For each module that failed, why.
        twice: Files of the package that were loaded as several modules, with their names.
    """

    seconds: float = 0.0
    own: float = 0.0
    errors: Mapping[str, str] = field(default_factory=dict)
    twice: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldPlace:
    """What came of taking an object by its deprecated place.

    Attributes:
        error: Why one of the two places cannot be imported; empty where both can.
        found: Whether the old place has the name.
        warned: Whether a ``DeprecationWarning`` was given.
        same: Whether both places give the same object.
    """

    error: str
    found: bool
    warned: bool
    same: bool


class Probe:
    """Imports the modules of one package, each alone and all together.

    Args:
        name: Dotted name of the package.
        sources: Its modules.
        kept: File in which results are kept between runs; None keeps nothing.
        path: Folders that the tests can import from and a fresh interpreter cannot.
        timeout: Seconds that one interpreter may take.
        workers: Interpreters at a time; as many as there are cores when left out.
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[Source],
        *,
        kept: Path | None = None,
        path: Sequence[str] = (),
        timeout: float = 120.0,
        workers: int | None = None,
    ) -> None:
        self._top = name.partition(".")[0]
        self._name = name
        self._sources = {source.module: source for source in sources}
        self._kept = kept
        self._path = tuple(path)
        self._timeout = timeout
        self._workers = workers or os.cpu_count() or 1
        self._hashes: dict[str, str] = {}

    def alone(self, modules: Iterable[str] | None = None) -> dict[str, Imported]:
        """Import each module by itself, in an interpreter of its own; successes are kept.

        Args:
            modules: Their names; all of the package when left out.

        Returns:
            For each module what came of it, in the order of their names.
        """
        wanted = sorted(self._sources if modules is None else modules)
        with self._turn():
            return self._alone(wanted)

    def _alone(self, wanted: Sequence[str]) -> dict[str, Imported]:
        kept = self._read_kept()
        results = {name: result for name in wanted if (result := self._still_true(kept.get(name)))}
        missing = [name for name in wanted if name not in results]
        if missing:
            # A thread each, since all it does is wait for its interpreter.
            with ThreadPoolExecutor(self._workers, thread_name_prefix="ssot-probe") as pool:
                fresh = dict(zip(missing, pool.map(lambda name: self._import((name,)), missing), strict=True))
            for name, (result, files) in fresh.items():
                results[name] = result
                if not result.errors:
                    kept[name] = {"files": self._hashed(files), "result": asdict(result)}
            self._write_kept(kept)
        return {name: results[name] for name in wanted}

    def whole(self) -> Imported:
        """Import all modules in one interpreter, in the order of their names."""
        return self._import(tuple(sorted(self._sources)))[0]

    def again(self, modules: Sequence[str]) -> Imported:
        """Import modules in one interpreter with nothing else running, whatever is kept."""
        return self._import(tuple(modules))[0]

    def old_place(self, old: Place, new: Place) -> OldPlace:
        """Take an object by its deprecated place and by its canonical one, in that order."""
        try:
            result, _ = self._run("old", (str(old), str(new)))
        except _NoResult as failure:
            return OldPlace(error=str(failure), found=False, warned=False, same=False)
        return OldPlace(**result)

    def _import(self, modules: tuple[str, ...]) -> tuple[Imported, dict[str, str]]:
        try:
            result, timed = self._run("import", modules)
        except _NoResult as failure:
            return Imported(errors={modules[0]: str(failure)}), {}
        imported = Imported(
            seconds=result["seconds"],
            own=sum(seconds for name, seconds in timed if _is_in(name, self._name)),
            errors=result["errors"],
            twice={path: tuple(names) for path, names in result["twice"].items()},
        )
        return imported, result["files"]

    def _run(self, do: str, names: Sequence[str]) -> tuple[dict[str, Any], list[tuple[str, float]]]:
        folders = sorted({str(source.path.parent) + os.sep for source in self._sources.values()}, key=len)
        orders = [(do,), self._path, names, (self._top,), folders]
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("COV_CORE", "COVERAGE_", "PYTEST_"))  # they would be measured as well
        }
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-X", "importtime", str(_CHILD)],
                input="".join("\t".join(words) + "\n" for words in orders),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self._timeout,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise _NoResult(f"it was not done after {self._timeout:g} s") from late
        text = done.stdout.rpartition(_MARK)[2] if _MARK in done.stdout else ""
        if not text:
            last = [line for line in done.stderr.splitlines() if not line.startswith("import time:")][-3:]
            raise _NoResult(f"the interpreter ended with code {done.returncode}: {' '.join(last)}".strip())
        return ast.literal_eval(text.strip()), _timed(done.stderr)

    # Keeping

    def _environment(self) -> str:
        """Changes when another interpreter or another set of packages would do the importing."""
        parts = [platform.python_version(), sys.executable, *self._path]
        for folder in sys.path:
            if os.path.isdir(folder):
                parts += sorted(
                    one for one in os.listdir(folder) if one.endswith((".dist-info", ".egg-info"))
                )
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait while another worker of the same run imports, and then read what it kept."""
        if self._kept is not None:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
        if self._kept is None or fcntl is None:
            yield
            return
        with self._kept.with_suffix(".lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            yield

    def _read_kept(self) -> dict[str, Any]:
        try:
            text = self._kept.read_text() if self._kept else ""
            document = json.loads(text or "{}")
        except (OSError, ValueError):
            return {}
        if document.get("form") != _FORM or document.get("environment") != self._environment():
            return {}
        modules: dict[str, Any] = document["modules"]
        return modules

    def _write_kept(self, modules: Mapping[str, Any]) -> None:
        if self._kept is None:
            return
        document = {"form": _FORM, "environment": self._environment(), "modules": modules}
        fresh = self._kept.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(json.dumps(document, sort_keys=True))
        fresh.replace(self._kept)

    def _still_true(self, entry: Mapping[str, Any] | None) -> Imported | None:
        if not entry or any(self._hash(path) != known for path, known in entry["files"].items()):
            return None
        values = entry["result"]
        return Imported(seconds=values["seconds"], own=values["own"])

    def _hashed(self, files: Mapping[str, str]) -> dict[str, str]:
        return {path: self._hash(path) for path in sorted(set(files.values()))}

    def _hash(self, path: str) -> str:
        if path not in self._hashes:
            try:
                self._hashes[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
            except OSError:
                self._hashes[path] = "gone"
        return self._hashes[path]


class _NoResult(Exception):
    """An interpreter ended without saying what came of its work."""


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _timed(text: str) -> list[tuple[str, float]]:
    """Modules and their own seconds, from the lines of ``-X importtime``."""
    timed = []
    for line in text.splitlines():
        if line.startswith("import time:"):
            own, _, name = line.removeprefix("import time:").split("|", 2)
            if own.strip().isdigit():
                timed.append((name.strip(), int(own) / 1e6))
    return timed
