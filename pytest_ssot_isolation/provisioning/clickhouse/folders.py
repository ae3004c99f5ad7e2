"""A folder for each process's chDB: removed when the process ends, however it ends.

In good order the process removes it; after ``kill -9`` a guardian process does, which waits for the lock that
the system takes from the dead; and should the guardian be killed too, the next run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from pytest_ssot_isolation.provisioning import locks
from pytest_ssot_isolation.provisioning.lease import roomiest

_PREFIX: Final = "ssot-isolation-chdb-"
_UNOWNED: Final = "ssot-isolation-new-chdb-"
_OWNER: Final = "owner.lock"
_BEING_MADE: Final = 60  # Seconds after which a folder without an owner is nobody's.
_MINE: Final[dict[Path, AbstractContextManager[bool]]] = {}

# The lock is asked for, not tried again and again: the guardian costs nothing while it waits. It runs without
# site packages, so that it is up before a killed test can have left anything.
_GUARD: Final = """
import fcntl, os, shutil, sys
os.chdir("/")
os.setsid()
folder = sys.argv[1]
owner = os.open(os.path.join(folder, sys.argv[2]), os.O_RDWR)
fcntl.lockf(owner, fcntl.LOCK_EX)
shutil.rmtree(folder, ignore_errors=True)
"""


def claim(parent: Path | None = None) -> Path:
    """Return a new folder, this process's for as long as it lives; folders of dead processes are removed.

    Args:
        parent: Where to make it; by default where data is written fastest.
    """
    parent = parent or roomiest()
    sweep(parent)
    made = Path(tempfile.mkdtemp(prefix=f"{_UNOWNED}{os.getuid()}-", dir=parent))
    owned = locks.exclusive(made / _OWNER, time.monotonic())
    owned.__enter__()  # Never left: the lock ends with the process.
    # Only now may others see it: a folder whose lock is free is taken for a dead process's.
    folder = made.rename(parent / made.name.replace(_UNOWNED, _PREFIX, 1))
    _MINE[folder] = owned
    _post_guardian(folder)
    return folder


def _post_guardian(folder: Path) -> None:
    # Not subprocess.Popen: its object would complain of a child that lives longer than itself, as this one must.
    command = [sys.executable, "-I", "-S", "-c", _GUARD, str(folder), _OWNER]
    silence = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    os.posix_spawn(sys.executable, command, os.environ, file_actions=silence)


def sweep(parent: Path) -> list[Path]:
    """Remove this user's folders whose process and guardian are both gone, and return them."""
    removed = []
    uid = os.getuid()
    for folder in [*parent.glob(f"{_PREFIX}{uid}-*"), *parent.glob(f"{_UNOWNED}{uid}-*")]:
        if folder in _MINE:
            continue  # To look at its lock from within the process would give it away.
        owner = folder / _OWNER
        try:
            is_young = time.time() - folder.stat().st_mtime < _BEING_MADE
            if is_young and (folder.name.startswith(_UNOWNED) or not owner.exists()):
                continue
            is_dead = locks.is_free(owner)
        except OSError:
            continue  # Its own process or guardian is just removing it.
        if is_dead:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed
