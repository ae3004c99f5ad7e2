"""The detached process that owns one server of a run, and ends it when the last client is gone."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

from pytest_ssot_isolation.provisioning import locks
from pytest_ssot_isolation.provisioning.home import CLIENTS, SUPERVISING, clear, publish

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


def main() -> None:
    """Leave the caller, start the server, and stay until nobody needs it; the one argument is its folder."""
    home = Path(sys.argv[1])
    told, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os.read(told, 1)  # Not before the lock is held: a client takes its absence for a death.
        os._exit(0)
    os.close(told)
    with locks.exclusive(home / SUPERVISING, time.monotonic() + 5):
        os.close(tell)
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _leave)
        with contextlib.suppress(_Leave):
            _own(home)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with locks.exclusive(home / CLIENTS, time.monotonic() + 1):
            clear(home)


class _Leave(BaseException):
    pass


def _leave(signum: int, frame: FrameType | None) -> None:
    raise _Leave


def _own(home: Path) -> None:
    publish(home, {"status": "starting"})
    started = threading.Event()
    threading.Thread(target=_give_up_when_alone, args=(home, started), daemon=True).start()
    owned: Owned | None = None
    try:
        try:
            owned = _start(home)
        except Exception as error:
            publish(home, {"status": "failed", "reason": str(error) or repr(error)})
        else:
            publish(home, {"status": "ready", "facts": owned.facts})
        started.set()
        while not _is_alone(home):
            if owned is not None and (trouble := owned.trouble()):
                publish(home, {"status": "died", "reason": trouble})
                owned.stop()
                owned = None
            time.sleep(_EACH)
    finally:
        if owned is not None:
            owned.stop()


def _start(home: Path) -> Owned:
    job = json.loads(sys.stdin.readline())
    module, _, function = job["starter"].partition(":")
    starter = getattr(importlib.import_module(module), function)
    # Empty when the client was killed while it prepared: the others still want the server.
    prepared = json.loads(sys.stdin.readline() or "{}")
    owned: Owned = starter(home, {**job["parameters"], **prepared})
    return owned


def _is_alone(home: Path) -> bool:
    if not (home / CLIENTS).exists():
        return True
    with locks.exclusive(home / CLIENTS, time.monotonic()) as got:
        return got


def _give_up_when_alone(home: Path, started: threading.Event) -> None:
    """End a start that nobody waits for any more, such as that of a container whose image is being pulled."""
    while not started.wait(_EACH):
        if _is_alone(home):
            os.kill(os.getpid(), signal.SIGTERM)
            return
