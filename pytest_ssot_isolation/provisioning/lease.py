"""What this run started, and nothing else: servers that live exactly as long as one client of the run does.

The first client starts a supervisor, a detached process that owns the server. Each client holds a shared
POSIX lock on one file of the run; the supervisor tries the exclusive lock, and once it gets it nobody is
left, however the clients ended: it stops the server and removes the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from pytest_ssot_isolation.errors import ServerFailed
from pytest_ssot_isolation.provisioning import locks

STATE: Final = "state.json"
CLIENTS: Final = "clients.lock"
STARTING: Final = "start.lock"
SUPERVISING: Final = "supervisor.lock"
LOG: Final = "supervisor.log"
_ROOM: Final = 1024**3
_one_thread = threading.Lock()  # A POSIX lock does not keep the threads of one process apart.


def root(preferred: Path | None = None) -> Path:
    """Return this user's folder of runs: in memory where 1 GB is free, else with the temporary files.

    Others may pass through it but not list it: as root the server runs as another user.
    """
    parent = preferred or roomiest()
    folder = parent / f"ssot-isolation-{os.getuid()}"
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    seen = folder.lstat()
    if seen.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
        raise ServerFailed(
            f"The folder {folder} belongs to somebody else, so no server's data can be kept there.\n"
            "Remove it, or set TMPDIR to a folder of your own."
        )
    return folder


def roomiest() -> Path:
    """Return where data is written fastest: in memory where 1 GB is free, else with the temporary files."""
    memory = Path("/dev/shm")
    with contextlib.suppress(OSError):
        if os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free >= _ROOM:
            return memory
    return Path(tempfile.gettempdir())


@dataclass(slots=True)
class Lease:
    """One client's share in a server; the server lives while any share of its run does.

    Attributes:
        facts: What the starter told of the server: its address, version and secrets.
        folder: The server's own folder.
    """

    facts: Mapping[str, Any] = field(repr=False)
    folder: Path
    _clients: locks.Held = field(repr=False)

    def trouble(self) -> str | None:
        """Return why the server is gone, or None while it runs."""
        state = _read(self.folder)
        if state.get("status") == "ready":
            if locks.is_free(self.folder / SUPERVISING):
                return "its supervisor was killed"
            return None
        return str(state.get("reason") or "its folder is gone")

    def close(self) -> None:
        """Give up this share; the supervisor notices within a quarter of a second."""
        self._clients.release()


def lease(
    name: str,
    starter: str,
    parameters: Mapping[str, Any],
    *,
    run_id: str,
    timeout: float,
    folder: Path | None = None,
) -> Lease:
    """Join the run's server of this name, starting it when this is the first to ask.

    Args:
        name: Tells the run's servers apart, such as ``"postgres-18"``.
        starter: ``"module:function"``, called in the supervisor with the server's own folder and the
            parameters; returns an ``Owned``.
        parameters: Plain data for the starter.
        run_id: Shared by the workers of one run.
        timeout: Seconds until the server has to be ready.
        folder: Where runs keep their folders; None for the fastest place with room.

    Raises:
        ServerFailed: The server did not start, with its own words.
    """
    sweep(root(folder))
    run = root(folder) / hashlib.sha256(run_id.encode()).hexdigest()[:12]
    deadline = time.monotonic() + timeout
    while True:
        home = run / name
        with contextlib.suppress(FileNotFoundError):  # Somebody clears the run's folder away right now.
            run.mkdir(mode=0o711, exist_ok=True)
            home.mkdir(mode=0o711, exist_ok=True)
        clients = locks.share(home / CLIENTS, deadline)
        if clients is not None:
            break
        if time.monotonic() > deadline:
            raise ServerFailed(
                f"The folder {home} stayed locked for {timeout:g} s.\nRemove it and run again."
            )
        time.sleep(0.01)  # The supervisor of an earlier share is clearing the folder away.
    try:
        with _one_thread, locks.exclusive(home / STARTING, deadline):
            if _read(home).get("status") not in ("starting", "ready") or locks.is_free(home / SUPERVISING):
                (home / STATE).unlink(missing_ok=True)
                _spawn(home, starter, parameters)
            facts = _await_ready(home, name, deadline, timeout)
    except BaseException:
        clients.release()
        raise
    return Lease(facts, home, clients)


def _spawn(home: Path, starter: str, parameters: Mapping[str, Any]) -> None:
    job = home / "job.json"
    with _private(job) as file:
        json.dump({"starter": starter, "parameters": dict(parameters)}, file)
    package = Path(__file__).resolve().parents[2]
    paths = [str(package), *(path for path in sys.path if path and Path(path).is_dir())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    # A supervisor must not measure itself, nor take part in the run it watches.
    for variable in ("COVERAGE_PROCESS_START", "PYTEST_XDIST_WORKER", "PYTHONASYNCIODEBUG", "PYTHONWARNINGS"):
        environment.pop(variable, None)
    with (home / LOG).open("ab") as log:
        # It forks once more and leaves, so that nobody has to reap the supervisor.
        subprocess.run(
            # Without site: the path is complete already, and a third of the start is saved.
            [sys.executable, "-S", "-m", "pytest_ssot_isolation.provisioning.supervisor", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
            check=False,
        )


def _await_ready(home: Path, name: str, deadline: float, timeout: float) -> Mapping[str, Any]:
    while True:
        state = _read(home)
        if state.get("status") == "ready":
            facts: Mapping[str, Any] = state["facts"]
            return facts
        if state.get("status") == "failed":
            raise ServerFailed(str(state["reason"]))
        if locks.is_free(home / SUPERVISING) and _read(home).get("status") not in ("ready", "failed"):
            raise ServerFailed(
                f"The supervisor of {name} ended before the server was ready.\n"
                f"It said:\n{last_words(home / LOG) or '  nothing'}"
            )
        if time.monotonic() > deadline:
            raise ServerFailed(
                f"{name} was not ready within {timeout:g} s.\n"
                f"It said:\n{last_words(home / 'server.log') or last_words(home / LOG) or '  nothing'}\n"
                "Free the machine of other load, or allow more time: the time-out named 'start'."
            )
        time.sleep(0.004)


def last_words(log: Path, lines: int = 12) -> str:
    """Return the end of a log, indented, to be quoted in an error."""
    with contextlib.suppress(OSError), log.open(errors="replace") as file:
        tail = file.read()[-8000:].strip().splitlines()[-lines:]
        return "\n".join(f"  {line}" for line in tail)
    return ""


def publish(home: Path, state: Mapping[str, Any]) -> None:
    """Write what is known of a server for its clients to read, all at once and for this user alone."""
    fresh = home / f"{STATE}.{os.getpid()}"
    with _private(fresh) as file:
        json.dump(dict(state), file)
    fresh.replace(home / STATE)


def _read(home: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((home / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state


@contextlib.contextmanager
def _private(path: Path) -> Iterator[TextIO]:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yield file


def sweep(runs: Path) -> None:
    """Clear away what dead runs left: those whose clients and supervisor were all killed."""
    for home in runs.glob("*/*/"):
        with contextlib.suppress(OSError):
            if not (home / CLIENTS).exists():
                if time.time() - home.stat().st_mtime < 60:
                    continue  # Somebody is just making it.
            elif locks.is_mine(home / CLIENTS) or not locks.is_free(home / SUPERVISING):
                continue
            with locks.exclusive(home / CLIENTS, time.monotonic()) as held:
                if held:
                    _clear_dead(home)


def _clear_dead(home: Path) -> None:
    """Stop what the supervisor can no longer stop, then remove the folder."""
    from pytest_ssot_isolation.provisioning import supervisor

    supervisor.clear_after_death(home)
    clear(home)


def clear(home: Path) -> None:
    """Remove a server's folder, the locks last: until then the next client waits for a fresh one."""
    for entry in list(home.iterdir()):
        if entry.name == CLIENTS:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    (home / CLIENTS).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        home.rmdir()
        home.parent.rmdir()
