"""An initialised data folder, kept for later runs: a copy of it takes a tenth of what ``initdb`` takes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

_DATABASES: Final = "base"
_STALE: Final = 600.0  # Seconds after which a copy that was begun and not ended is somebody's who was killed.
_LAYOUT: Final = 3  # To be raised when the owner of the files or the options of initdb change.


def folder(version: str) -> Path | None:
    """Return where this user keeps an initialised data folder of this version, or None without a home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    below = Path(base) / "pytest-ssot-isolation"
    try:
        below.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return below / f"postgres-{version}-{_LAYOUT}" if os.access(below, os.W_OK) else None


def take(kept: Path, home: Path) -> Mapping[str, str]:
    """Copy the kept data folder, if there is one, into a server's own folder.

    Whoever starts the supervisor calls it while that one loads, which takes as long.

    Returns:
        The superuser's password, or nothing when there was nothing to copy.
    """
    # By a name of its own: if this process is killed, what it began must not be taken for a whole one.
    begun = home / f"copy-{os.getpid()}"
    try:
        password = (kept / "password").read_text()
        _copy(str(kept / "data"), str(begun))
        begun.rename(home / "data")
    except OSError:
        _remove(begun)
        return {}
    return {"password": password}


def keep(data: Path, kept: Path, password: str) -> Callable[[], None]:
    """Begin to keep a fresh data folder for later starts; whoever is first among several runs wins.

    What a starting server writes to is copied at once. The databases make up nine files in ten, and no server
    touches them before somebody connects, so they can be copied while it starts.

    Returns:
        What copies the rest; to be called after the server was started and before anybody connects.
    """
    fresh = kept.with_name(f"{kept.name}.{os.getpid()}.{os.urandom(4).hex()}")

    def rest() -> None:
        try:
            _copy(str(data / _DATABASES), str(fresh / "data" / _DATABASES))
            fresh.rename(kept)
        except OSError:
            _remove(fresh)

    try:
        for left in kept.parent.glob(f"{kept.name}.*"):
            if time.time() - left.stat().st_mtime > _STALE:
                _remove(left)  # Its run was killed while it copied.
        fresh.mkdir(mode=0o700)
        _copy(str(data), str(fresh / "data"), but=_DATABASES)
        secret = fresh / "password"
        secret.touch(mode=0o600)
        secret.write_text(password)
    except OSError:
        _remove(fresh)
    return rest


def _remove(folder: Path) -> None:
    import shutil  # As long in loading as all the rest, and seldom needed.

    shutil.rmtree(folder, ignore_errors=True)


def _copy(source: str, target: str, but: str = "") -> None:
    """Copy a tree with its owner: a thousand small files, in six tenths of the time that ``cp`` takes."""
    seen = os.stat(source)
    os.mkdir(target, 0o700)
    os.chown(target, seen.st_uid, seen.st_gid)
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.name == but:
                continue
            if entry.is_dir():
                _copy(entry.path, f"{target}/{entry.name}")
            else:
                _copy_file(entry.path, f"{target}/{entry.name}")


def _copy_file(source: str, target: str) -> None:
    if sys.platform != "linux":  # Only there can the system be asked to copy from file to file.
        import shutil

        shutil.copyfile(source, target)
        shutil.copymode(source, target)
        return
    reading = os.open(source, os.O_RDONLY)
    try:
        seen = os.fstat(reading)
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            left = seen.st_size
            while left and (sent := os.sendfile(writing, reading, None, left)):
                left -= sent
            os.fchown(writing, seen.st_uid, seen.st_gid)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
