"""The detached process that owns one server of a run, and ends it when the last client is gone."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from pytest_ssot_isolation.provisioning import lease, locks

REMAINS: Final = "remains.json"
_EACH: Final = 0.25


class Owned(Protocol):
    """A server as its supervisor sees it."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the clients need to know, as plain data."""

    def trouble(self) -> str | None:
        """Return why the server is gone, or None while it runs."""

    def stop(self) -> None:
        """Stop the server and leave nothing of it."""


def main(home: Path) -> None:
    """Leave the caller, start the server, and stay until nobody needs it."""
    told, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os.read(told, 1)  # Not before the lock is held: a client takes its absence for a death.
        os._exit(0)
    os.close(told)
    with locks.exclusive(home / lease.SUPERVISING, time.monotonic() + 5):
        os.close(tell)
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _leave)
        with contextlib.suppress(_Leave):
            _own(home)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with locks.exclusive(home / lease.CLIENTS, time.monotonic() + 1):
            lease.clear(home)


class _Leave(BaseException):
    pass


def _leave(signum: int, frame: FrameType | None) -> None:
    raise _Leave


def _own(home: Path) -> None:
    lease.publish(home, {"status": "starting"})
    job = json.loads((home / "job.json").read_text())
    (home / "job.json").unlink()
    module, _, function = job["starter"].partition(":")
    started = threading.Event()
    threading.Thread(target=_give_up_when_alone, args=(home, started), daemon=True).start()
    owned: Owned | None = None
    try:
        try:
            owned = getattr(importlib.import_module(module), function)(home, job["parameters"])
        except Exception as error:
            lease.publish(home, {"status": "failed", "reason": str(error) or repr(error)})
        else:
            lease.publish(home, {"status": "ready", "facts": owned.facts})
        started.set()
        while not _is_alone(home):
            if owned is not None and (trouble := owned.trouble()):
                lease.publish(home, {"status": "died", "reason": trouble})
                owned.stop()
                owned = None
            time.sleep(_EACH)
    finally:
        if owned is not None:
            owned.stop()


def _is_alone(home: Path) -> bool:
    if not (home / lease.CLIENTS).exists():
        return True
    with locks.exclusive(home / lease.CLIENTS, time.monotonic()) as got:
        return got


def _give_up_when_alone(home: Path, started: threading.Event) -> None:
    """End a start that nobody waits for any more, such as that of a container whose image is being pulled."""
    while not started.wait(_EACH):
        if _is_alone(home):
            os.kill(os.getpid(), signal.SIGTERM)
            return


def remember(home: Path, **what: Any) -> None:
    """Write down what has to be ended should the supervisor itself be killed.

    Args:
        home: The server's folder.
        **what: ``pid=…`` of a process, or ``container=…``, the id of one.
    """
    if "pid" in what:
        what["born"] = born(what["pid"])
    with (home / REMAINS).open("a") as file:
        file.write(json.dumps(what) + "\n")


def clear_after_death(home: Path) -> None:
    """End what a killed supervisor left running."""
    with contextlib.suppress(OSError):
        for line in (home / REMAINS).read_text().splitlines():
            what = json.loads(line)
            if "pid" in what and what["born"] and what["born"] == born(what["pid"]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(what["pid"], signal.SIGKILL)
            if "container" in what:
                from pytest_ssot_isolation.provisioning import docker_engine

                docker_engine.remove(what["container"])


def born(pid: int) -> str:
    """When a process started: a pid alone may be somebody else's by now."""
    stat = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        return stat.read_text().rpartition(")")[2].split()[19]
    if Path("/proc/self").exists():
        return ""
    told = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
