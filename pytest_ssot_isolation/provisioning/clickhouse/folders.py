"""A folder for each process's chDB: removed at its end, or by whoever comes next after it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

_PREFIX: Final = "ssot-isolation-chdb-"
_OWNED: list[int] = []  # Open for as long as the process lives: closing the file would give its lock away.


def claim_folder() -> Path:
    """Return a new folder that is this process's for as long as it lives, and sweep those of dead ones."""
    root = Path(tempfile.gettempdir())
    sweep(root)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getuid()}-", dir=root))
    descriptor = os.open(folder / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    _OWNED.append(descriptor)
    return folder


def sweep(root: Path) -> list[Path]:
    """Remove the folders of this user whose process is gone, and return them.

    A POSIX lock tells: the system frees it when its process dies, however it dies, a forked child does not
    inherit it, and unlike a process id it is never given to somebody else.
    """
    removed = []
    for folder in root.glob(f"{_PREFIX}{os.getuid()}-*"):
        try:
            descriptor = os.open(folder / "owner", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # Being made or being removed right now.
        if os.fstat(descriptor).st_ino in {os.fstat(owned).st_ino for owned in _OWNED}:
            # lockf would succeed within this process, and closing would give the lock away.
            _OWNED.append(descriptor)
            continue
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass
        else:
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
        os.close(descriptor)
    return removed
