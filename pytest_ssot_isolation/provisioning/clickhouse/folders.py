"""A folder for each process's chDB: removed when the process ends, however it ends.

In good order the process removes it; after ``kill -9`` a guardian process does, which waits for the lock that
the system takes from the dead; and should the guardian be killed too, the next run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from pytest_ssot_isolation.provisioning import locks

_PREFIX: Final = "ssot-isolation-chdb-"
_OWNER: Final = "owner.lock"
_BEING_MADE: Final = 60  # Seconds after which a folder without an owner is nobody's.

# The lock is asked for, not tried again and again: the guardian costs nothing while it waits. It runs without
# site packages, so that it is up before a killed test can have left anything.
_GUARD: Final = """
import fcntl, os, shutil, sys
folder = sys.argv[1]
owner = os.open(os.path.join(folder, sys.argv[2]), os.O_RDWR)
fcntl.lockf(owner, fcntl.LOCK_EX)
shutil.rmtree(folder, ignore_errors=True)
"""


def claim(parent: Path | None = None) -> Path:
    """Return a new folder, this process's for as long as it lives; folders of dead processes are removed.

    Args:
        parent: Where to make it; by default among the temporary files.
    """
    parent = parent or Path(tempfile.gettempdir())
    sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getuid()}-", dir=parent))
    locks.share(folder / _OWNER, time.monotonic())  # Held, by not being given back, until the process ends.
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _GUARD, str(folder), _OWNER],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    return folder


def sweep(parent: Path) -> list[Path]:
    """Remove this user's folders whose process and guardian are both gone, and return them."""
    removed = []
    for folder in parent.glob(f"{_PREFIX}{os.getuid()}-*"):
        owner = folder / _OWNER
        try:
            is_dead = locks.is_free(owner) and (
                owner.exists() or time.time() - folder.stat().st_mtime > _BEING_MADE
            )
        except OSError:
            continue  # Its own process or guardian is just removing it.
        if is_dead:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed
