"""What a killed supervisor left running, ended by the next run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

from pytest_ssot_isolation.provisioning import processes
from pytest_ssot_isolation.provisioning.home import REMAINS


def end(home: Path) -> None:
    """End what a server's supervisor wrote down for the case of its own death."""
    with contextlib.suppress(OSError):
        for line in (home / REMAINS).read_text().splitlines():
            what = json.loads(line)
            if "pid" in what and what["born"] and what["born"] == processes.born(what["pid"]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(what["pid"], signal.SIGKILL)
            if "container" in what:
                from pytest_ssot_isolation.provisioning import docker_engine

                docker_engine.remove(what["container"])
