"""Processes as others see them: a number alone may be somebody else's by now."""

from __future__ import annotations

import contextlib
import os
import subprocess


def born(pid: int) -> str:
    """Return when a process started, in the system's own measure, or nothing where there is no such process."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[19]
    if os.path.exists("/proc/self"):
        return ""
    told = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return told.stdout.strip()
