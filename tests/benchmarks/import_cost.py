"""Prints what importing the plugin and its hooks costs a process that has pytest; run it with python."""

from __future__ import annotations

import subprocess
import sys

RUNS = 20
SCRIPT = """
import time, pytest, _pytest.config
began = time.perf_counter()
import pytest_ssot_isolation.plugin, pytest_ssot_isolation.hookspecs
print(time.perf_counter() - began)
"""

if __name__ == "__main__":
    times = sorted(
        float(subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True).stdout)
        for _ in range(RUNS)
    )
    print(
        f"importing the plugin and its hooks: minimum {times[0] * 1e3:.1f} ms, median {times[RUNS // 2] * 1e3:.1f} ms"
        f" of {RUNS} fresh processes (bar: minimum 15 ms)"
    )
