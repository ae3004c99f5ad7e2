"""Runs ``initdb`` and ``postgres`` for the supervisor; imports little, since a run waits for it to start."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pytest_ssot_isolation.errors import ServerFailed
from pytest_ssot_isolation.provisioning.home import last_words, remember
from pytest_ssot_isolation.provisioning.postgres.kept import keep, take

SUPERUSER: Final = "postgres"
_PORTS_TRIED: Final = 3


class _Running(NamedTuple):  # Here and below: dataclasses take a fifth of the supervisor's start to load.
    process: subprocess.Popen[bytes]
    log: Path
    facts: dict[str, Any]

    def trouble(self) -> str | None:
        code = self.process.poll()
        if code is None:
            return None
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        return f"it {how}; its last words:\n{last_words(self.log) or '  none'}"

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(home: Path, parameters: Mapping[str, Any]) -> _Running:
    """Initialise a data folder, or take a copy, and run ``postgres`` on it; called in the supervisor.

    Args:
        home: The server's own folder.
        parameters: ``programs`` (a folder), ``version``, ``timeout`` (seconds) and ``kept``, the folder in which
            an initialised data folder is kept, or None; and what ``kept.take`` returned, where it was called.

    Raises:
        ServerFailed: With the remedy, and the program's own words.
    """
    runner = _Runner.fit_for(home, Path(parameters["programs"]))
    major = int(str(parameters["version"]).partition(".")[0])
    kept = Path(parameters["kept"]) if parameters["kept"] else None
    deadline = time.monotonic() + float(parameters["timeout"])
    data = home / "data"
    if kept is not None and (password := parameters.get("password") or take(kept, home).get("password")):
        try:
            runner.own(data)
            return _run(home, data, runner, major, password, deadline)
        except ServerFailed:
            # The kept folder may be damaged: set it aside, and begin from nothing.
            import shutil

            shutil.rmtree(kept, ignore_errors=True)
            shutil.rmtree(data, ignore_errors=True)
    password = _initialise(home, data, runner, major, deadline)
    meanwhile = keep(data, kept, password) if kept is not None else None
    return _run(home, data, runner, major, password, deadline, meanwhile)


class _Runner(NamedTuple):
    """How to run the programs: PostgreSQL refuses root, so root runs them as ``nobody``."""

    folder: Path
    user: int | None = None
    group: int | None = None

    @classmethod
    def fit_for(cls, home: Path, folder: Path) -> _Runner:
        if os.geteuid() != 0:
            return cls(folder)
        nobody = pwd.getpwnam("nobody")
        if not all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents)):
            # Such as a virtual environment below root's home: nobody may not enter.
            folder = _copy_programs(folder, home / "programs")
        return cls(folder, nobody.pw_uid, nobody.pw_gid)

    def own(self, path: Path) -> None:
        """Give a file, or a folder with all that is in it, to whom the programs run as."""
        if self.user is None or self.group is None or path.stat().st_uid == self.user:
            return
        os.chown(path, self.user, self.group)
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.lchown(os.path.join(folder, name), self.user, self.group)

    def popen(self, program: str, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [str(self.folder / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
                user=self.user,
                group=self.group,
                extra_groups=None if self.user is None else [],
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )


def _copy_programs(folder: Path, target: Path) -> Path:
    import shutil

    installation, package = folder.parent, folder.parents[1]
    shutil.copytree(installation, target / package.name / installation.name, symlinks=True)
    libraries = package.with_name(
        f"{package.name}.libs"
    )  # Where a wheel's programs look, seen from themselves.
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for made in (target, *target.rglob("*")):
        made.chmod(made.stat().st_mode | (0o755 if made.is_dir() else 0o644))
    return target / package.name / installation.name / folder.name


def _end_with_parent() -> None:
    """Ask Linux to end this process when the supervisor is killed; after setuid, which would undo it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


def _initialise(home: Path, data: Path, runner: _Runner, major: int, deadline: float) -> str:
    password = os.urandom(16).hex()
    secret = home / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    runner.own(secret)
    data.mkdir(mode=0o700)
    runner.own(data)
    options = ["--locale=C"]
    if major >= 17:  # The same sorting and case rules on every machine; older ones know only the system's.
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if major >= 18:
        options += ["--no-data-checksums"]
    log = home / "initdb.log"
    process = runner.popen(
        "initdb",
        *("--pgdata", str(data), "--username", SUPERUSER, "--pwfile", str(secret)),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", "--no-instructions", *options),
        # The first: or the superuser's own password costs 4,096 rounds at each connection. The second: or an
        # initdb that is cut off, by a full disk for one, leaves a segment in /dev/shm.
        *(("-c", "scram_iterations=1", "-c", "dynamic_shared_memory_type=mmap") if major >= 16 else ()),
        log=log,
    )
    try:
        code = process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise ServerFailed(_failure("initdb did not end in time", log, home)) from None
    finally:
        secret.unlink()
    if code:
        raise ServerFailed(_failure(f"initdb ended with exit status {code}", log, home))
    return password


def _failure(what: str, log: Path, home: Path) -> str:
    words = last_words(log)
    remedy = "Read the words above; another PostgreSQL can be given with --ssot-postgres=DSN."
    if "No space left on device" in words or "Check free disk space" in words:
        remedy = f"Free some space below {home.parent.parent}, or set TMPDIR to a folder with 100 MB free."
    elif "could not bind" in words or "Address already in use" in words:
        remedy = "Something on this machine takes every port asked for; end it, and run again."
    elif "did not" in what:
        remedy = "Free the machine of other load, or allow more time: the time-out named 'start'."
    return f"The embedded PostgreSQL did not start: {what}.\nIt said:\n{words or '  nothing'}\n{remedy}"


def _settings(major: int) -> dict[str, str]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_connections": "300",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Kept in the data folder, so that a killed server leaves none in /dev/shm.
        "dynamic_shared_memory_type": "mmap",
        # Statements may hold passwords, and errors quote this log.
        "log_min_error_statement": "panic",
    }
    if major >= 16:
        settings["scram_iterations"] = "1"
    if major >= 18:
        settings["io_method"] = "sync"
    return settings


def _run(
    home: Path,
    data: Path,
    runner: _Runner,
    major: int,
    password: str,
    deadline: float,
    meanwhile: Callable[[], None] | None = None,
) -> _Running:
    log = home / "server.log"
    for remaining in reversed(range(_PORTS_TRIED)):
        log.unlink(missing_ok=True)
        port = _free_port()
        settings = [f"--{name}={value}" for name, value in {**_settings(major), "port": str(port)}.items()]
        process = runner.popen("postgres", "-D", str(data), *settings, log=log)
        remember(home, pid=process.pid)
        running = _Running(process, log, {"port": port, "password": password})
        try:
            if meanwhile is not None:
                meanwhile()
                meanwhile = None
            _await_ready(running, data, deadline, home)
        except ServerFailed as failed:
            running.stop()
            # Between asking for a free port and using it, somebody else may have taken it.
            if not remaining or "could not bind" not in str(failed):
                raise
        except BaseException:
            running.stop()
            raise
        else:
            return running
    raise AssertionError("the last try either returns or raises")


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def _await_ready(running: _Running, data: Path, deadline: float, home: Path) -> None:
    while True:
        with contextlib.suppress(OSError):
            lines = (data / "postmaster.pid").read_text().splitlines()
            # A copied or stale file may say ready as well: the pid tells.
            if len(lines) >= 8 and lines[7].strip() == "ready" and lines[0] == str(running.process.pid):
                return
        if (code := running.process.poll()) is not None:
            raise ServerFailed(_failure(f"it ended with exit status {code}", running.log, home))
        if time.monotonic() > deadline:
            raise ServerFailed(_failure("it did not become ready in time", running.log, home))
        time.sleep(0.003)
