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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from pytest_ssot_isolation.errors import ServerFailed
from pytest_ssot_isolation.provisioning import locks, remains
from pytest_ssot_isolation.provisioning.home import (
    CLIENTS,
    LOG,
    STARTING,
    STATE,
    SUPERVISING,
    clear,
    last_words,
    read,
)

Prepare: TypeAlias = Callable[[Path], Mapping[str, Any]]
_SUPERVISOR: Final = "pytest_ssot_isolation.provisioning.supervisor"
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
        state = read(self.folder)
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
    prepare: Prepare | None = None,
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
        prepare: Called with the server's own folder, while the supervisor starts, by the client that starts
            it; what it returns is added to the parameters. It may not have run: a client can be killed.

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
            # A supervisor whose server failed or died stays to say so until this run's last client is gone.
            if locks.is_free(home / SUPERVISING):
                (home / STATE).unlink(missing_ok=True)
                _spawn(home, starter, parameters, prepare)
            facts = _await_ready(home, name, deadline, timeout)
    except BaseException:
        clients.release()
        raise
    return Lease(facts, home, clients)


def _spawn(home: Path, starter: str, parameters: Mapping[str, Any], prepare: Prepare | None) -> None:
    package = Path(__file__).resolve().parents[2]
    paths = [str(package), *(path for path in sys.path if path and Path(path).is_dir())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    # A supervisor must not measure itself, nor take part in the run it watches.
    for variable in ("COVERAGE_PROCESS_START", "PYTEST_XDIST_WORKER", "PYTHONASYNCIODEBUG", "PYTHONWARNINGS"):
        environment.pop(variable, None)
    with (home / LOG).open("ab") as log:
        # It forks once more and leaves, so that nobody has to reap the supervisor.
        leaving = subprocess.Popen(
            # Without site, whose path is complete already, and without `-m`: half of the start is saved.
            [sys.executable, "-S", "-c", f"from {_SUPERVISOR} import main; main()", str(home)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
            text=True,
        )
    with leaving, contextlib.suppress(BrokenPipeError):  # Whoever waits learns of its end from its log.
        assert leaving.stdin is not None
        print(
            json.dumps({"starter": starter, "parameters": dict(parameters)}), file=leaving.stdin, flush=True
        )
        prepared = prepare(home) if prepare is not None else {}
        print(json.dumps(dict(prepared)), file=leaving.stdin, flush=True)


def _await_ready(home: Path, name: str, deadline: float, timeout: float) -> Mapping[str, Any]:
    while True:
        state = read(home)
        if state.get("status") == "ready":
            facts: Mapping[str, Any] = state["facts"]
            return facts
        if state.get("status") in ("failed", "died"):
            raise ServerFailed(str(state["reason"]))
        if locks.is_free(home / SUPERVISING) and read(home).get("status") in (None, "starting"):
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
                    remains.end(home)
                    clear(home)
