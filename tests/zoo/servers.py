"""The servers that rows of the zoo need, each started when it is first asked for."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from .exhibits import Row

REDIS = "redis-server"
WHY_NO_REDIS = (
    "redis-server is not installed, so nothing of this row was tried; to run it: apt-get install redis-server"
)
START_WITHIN = 10.0
"""Seconds."""


class NotInstalled(Exception):
    """The program of a server is not there."""


class RedisDatabase:
    """A redis server of the run's own, empty.

    Attributes:
        port: On 127.0.0.1.
        version: Of the server.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._client = redis.Redis(port=port)
        self.version = str(self._client.info("server")["redis_version"])

    async def reset_async(self) -> None:
        """Forget everything; a matter of microseconds, so the loop may wait for it."""
        self._client.flushall()

    def close(self) -> None:
        """End the connection."""
        self._client.close()


@contextmanager
def redis_server() -> Iterator[RedisDatabase]:
    """Run the distribution's own program, with all that it holds in memory.

    Raises:
        NotInstalled: There is none.
    """
    program = shutil.which(REDIS)
    if program is None:
        raise NotInstalled(WHY_NO_REDIS)
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="ssot-redis-") as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        log = Path(folder, "log")
        options = {"port": str(port), "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": folder}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with log.open("wb") as output:
            process = subprocess.Popen([program, *words], stdout=output, stderr=output)
        try:
            database = _answering(port, process, log)
            yield database
            database.close()
        finally:
            process.terminate()
            process.wait()


def _answering(port: int, process: subprocess.Popen[bytes], log: Path) -> RedisDatabase:
    until = time.monotonic() + START_WITHIN
    while True:
        try:
            return RedisDatabase(port)
        except redis.ConnectionError:
            if process.poll() is not None or time.monotonic() > until:
                told = log.read_text(errors="replace")[-500:]
                raise RuntimeError(f"{REDIS} did not answer within {START_WITHIN:g} s:\n{told}") from None
            time.sleep(0.01)


class Servers:
    """Servers by what a row needs.

    Args:
        until_the_end: Stops them.
    """

    def __init__(self, until_the_end: ExitStack) -> None:
        from pytest_ssot_isolation.options import Settings
        from pytest_ssot_isolation.provisioning import servers
        from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

        self._lines: list[str] = []
        self._until_the_end = until_the_end
        self._redis: RedisDatabase | None = None
        timeouts = DatabaseTimeoutConfig.for_environment("local")
        self._server = servers.on_first_use(Settings(), timeouts, until_the_end, tell=self._lines.append)

    @contextmanager
    def database(self, row: Row) -> Iterator[Any]:
        """An empty database, where the row needs one.

        Raises:
            NotInstalled: The row needs redis, and it is not there.
        """
        if not row.needs:
            yield None
        elif row.needs == "redis":
            if self._redis is None:
                self._redis = self._until_the_end.enter_context(redis_server())
                self._lines.append(f"redis {self._redis.version} started from {REDIS}")
            yield self._redis
        else:
            with self._server(row.needs).new_database() as database:
                yield database

    def line(self, row: Row) -> str:
        """What a row's server is, in a line; empty where it needs none, or none could be started."""
        lines = [line for line in self._lines if row.needs and line.startswith(row.needs)]
        return lines[0].partition(" (")[0] if lines else ""
