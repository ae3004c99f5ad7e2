"""One server's folder, through which its supervisor and the run's workers tell each other what they know.

Imports little: a run waits for its supervisor to start.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from pytest_ssot_isolation.provisioning import processes

STATE: Final = "state.json"
CLIENTS: Final = "clients.lock"
STARTING: Final = "start.lock"
SUPERVISING: Final = "supervisor.lock"
LOG: Final = "supervisor.log"
REMAINS: Final = "remains.json"


def publish(home: Path, state: Mapping[str, Any]) -> None:
    """Write what is known of a server for its clients to read, all at once and for this user alone."""
    fresh = home / f"{STATE}.{os.getpid()}"
    with private(fresh) as file:
        json.dump(dict(state), file)
    fresh.replace(home / STATE)


def read(home: Path) -> dict[str, Any]:
    """Return what was published last, or nothing."""
    try:
        state: dict[str, Any] = json.loads((home / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state


def remember(home: Path, **what: Any) -> None:
    """Write down what has to be ended should the supervisor itself be killed.

    Args:
        home: The server's folder.
        **what: ``pid=…`` of a process, or ``container=…``, the id of one.
    """
    if "pid" in what:
        what["born"] = processes.born(what["pid"])
    with (home / REMAINS).open("a") as file:
        file.write(json.dumps(what) + "\n")


@contextlib.contextmanager
def private(path: Path) -> Iterator[TextIO]:
    """Open a file anew that only this user may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yield file


def last_words(log: Path, lines: int = 12) -> str:
    """Return the end of a log, indented, to be quoted in an error."""
    with contextlib.suppress(OSError), log.open(errors="replace") as file:
        tail = file.read()[-8000:].strip().splitlines()[-lines:]
        return "\n".join(f"  {line}" for line in tail)
    return ""


def clear(home: Path) -> None:
    """Remove a server's folder, the locks last: until then the next client waits for a fresh one."""
    for entry in list(home.iterdir()):
        if entry.name == CLIENTS:
            continue
        if entry.is_dir() and not entry.is_symlink():
            import shutil  # Needed at the end only, and as long in loading as all the rest.

            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    (home / CLIENTS).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        home.rmdir()
        home.parent.rmdir()
