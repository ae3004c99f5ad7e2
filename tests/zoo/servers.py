"""The servers that rows of the zoo need, each started when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .exhibits import Row


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
        timeouts = DatabaseTimeoutConfig.for_environment("local")
        self._server = servers.on_first_use(Settings(), timeouts, until_the_end, tell=self._lines.append)

    @contextmanager
    def database(self, row: Row) -> Iterator[Any]:
        """An empty database, where the row needs one."""
        if not row.needs:
            yield None
            return
        with self._server(row.needs).new_database() as database:
            yield database

    def line(self, row: Row) -> str:
        """What a row's server is, in a line; empty where it needs none, or none could be started."""
        lines = [line for line in self._lines if row.needs and line.startswith(row.needs)]
        return lines[0].partition(" (")[0] if lines else ""
