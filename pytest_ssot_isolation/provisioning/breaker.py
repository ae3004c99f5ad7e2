"""A circuit breaker for one run: a server that failed three times is not tried again, by any worker.

Own code and no library: those that are kept (pybreaker, circuitbreaker, purgatory) close again after a while, and
share their count through Redis at best.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import ClassVar, Final

from pytest_ssot_isolation.errors import IsolationError, ServerGivenUp
from pytest_ssot_isolation.provisioning import processes

FAILURES: Final = 3


class Breaker:
    """Counts one server's failures in a row; at the third it opens and stays open for the run.

    There is no half-open state: a run is short, and the one first cause tells more than a late recovery
    that makes some tests pass and others fail.
    """

    _all: ClassVar[dict[str, Breaker]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, file: Path | None = None) -> None:
        self._causes: list[str] = []
        self._file = file

    @classmethod
    def of(cls, run_id: str, server: str) -> Breaker:
        """Return the breaker of one server in one run; ``server`` may hold a password, so it is digested."""
        key = hashlib.sha256(f"{run_id}\n{server}".encode()).hexdigest()
        with cls._guard:
            return cls._all.setdefault(key, cls(_shared_file(key)))

    def check(self, engine: str) -> None:
        """Raise ``ServerGivenUp`` with the first cause when the breaker is open."""
        causes = self._known()
        if len(causes) >= FAILURES:
            raise ServerGivenUp(
                f"The {engine} server failed {len(causes)} times in this run, so it is not tried again.\n"
                f"The first cause was:\n{causes[0]}"
            )

    def failed(self, error: IsolationError) -> None:
        """Count one failure."""
        with self._guard:
            self._causes = [*self._known(), str(error)]
            if self._file is not None:
                try:
                    _append(self._file, str(error))
                except OSError:
                    self._file = None  # From now on this worker counts for itself.

    def succeeded(self) -> None:
        """Forget the failures so far: they were not in a row."""
        with self._guard:
            if len(self._known()) < FAILURES:
                self._causes = []
                if self._file is not None:
                    self._file.unlink(missing_ok=True)

    def _known(self) -> list[str]:
        """The causes so far, of all workers where the run has several."""
        if self._file is not None:
            try:
                return [json.loads(line) for line in self._file.read_text().splitlines()]
            except (OSError, ValueError):
                return []
        return self._causes


def forget(pid: int | None = None) -> None:
    """Remove what the workers of a process shared, and of those that are no more; called by xdist's controller.

    Args:
        pid: Of the process that started the workers; this one's by default.
    """
    folder = _folder()
    for file in folder.glob("*.jsonl"):
        owner, born, _ = file.name.split("-", 2)
        if int(owner) == (pid or os.getpid()) or processes.born(int(owner)).replace(" ", "_") != born:
            file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"ssot-isolation-{os.getuid()}-breakers"


def _shared_file(key: str) -> Path | None:
    """Where the workers of one run count together: by the process that started them all; None without any."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return None
    controller = os.getppid()
    return _folder() / f"{controller}-{processes.born(controller).replace(' ', '_')}-{key[:16]}.jsonl"


def _append(file: Path, cause: str) -> None:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    if file.parent.is_symlink() or file.parent.stat().st_uid != os.getuid():
        raise PermissionError(file.parent)
    # One write to a file opened for appending: no worker's line ends up inside another's.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{json.dumps(cause)}\n".encode())
    finally:
        os.close(descriptor)
