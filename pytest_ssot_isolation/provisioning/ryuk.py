"""Ryuk, testcontainers' own reaper: on where it can be had. Elsewhere our labels and sweeps do its work."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Final

from pytest_ssot_isolation.provisioning import docker_engine

_PORT: Final = 8080
_PATIENCE: Final = 10.0  # Seconds for a reaper that is on this machine to start and to answer.


def arrange() -> str:
    """Start Ryuk where its image is present or can be pulled, and switch it off elsewhere.

    To be called before the first container starts, in the process that owns the containers: Ryuk removes them
    some seconds after that process is gone.

    Returns:
        A few words for the header of the run.
    """
    from docker.errors import DockerException
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import Reaper

    if testcontainers_config.ryuk_disabled:
        return "Ryuk off (TESTCONTAINERS_RYUK_DISABLED)"
    image = testcontainers_config.ryuk_image
    try:
        docker_engine.have(image)
    except (DockerException, OSError):
        testcontainers_config.ryuk_disabled = True
        return f"Ryuk off ({image} is not to be had), labels swept instead"
    try:
        Reaper.get_instance()
        _be_heard()
    except Exception as error:  # An engine whose socket no container may have; whatever it raises then.
        with contextlib.suppress(Exception):  # It may have removed itself.
            Reaper.delete_instance()
        testcontainers_config.ryuk_disabled = True
        why = docker_engine.one_line(error)[:100]
        return f"Ryuk off ({image} did not start: {why}), labels swept instead"
    return "Ryuk on"


def _be_heard() -> None:
    """Connect to Ryuk until it acknowledges what it is to watch.

    testcontainers does not wait for the acknowledgement. Docker's proxy accepts a connection before Ryuk listens, and
    drops it; nobody would notice, and Ryuk would watch nothing.
    """
    from testcontainers.core.container import Reaper
    from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

    reaper = Reaper._container
    assert reaper is not None, "it was started just now"
    deadline = time.monotonic() + _PATIENCE
    while not _acknowledges(Reaper._socket):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no acknowledgement within {_PATIENCE:g} s")
        time.sleep(0.05)
        place = reaper.get_container_host_ip(), int(reaper.get_exposed_port(_PORT))
        if Reaper._socket is not None:
            Reaper._socket.close()
        Reaper._socket = socket.create_connection(place, timeout=_PATIENCE)
        with contextlib.suppress(OSError):
            Reaper._socket.sendall(f"label={LABEL_SESSION_ID}={SESSION_ID}\r\n".encode())


def _acknowledges(connection: socket.socket | None) -> bool:
    if connection is None:
        return False
    connection.settimeout(1)
    with contextlib.suppress(OSError):
        return connection.recv(16).startswith(b"ACK")
    return False
