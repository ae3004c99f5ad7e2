"""ClickHouse inside this process: chDB, with what it does to signals undone and forks refused."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pytest_ssot_isolation.errors import EngineForked, EngineInUse
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.clickhouse import folders
from pytest_ssot_isolation.provisioning.clickhouse.database import ClickhouseServer
from pytest_ssot_isolation.provisioning.clickhouse.policies import Pool, Protections, config_file, users_file
from pytest_ssot_isolation.provisioning.clickhouse.sql import identifier

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

MOST_REOPENINGS: Final = 20
"""Each opening after the first leaks about 7 MB, 5 threads and 10 descriptors inside chDB."""

_forked_with_chdb = False


def _after_fork() -> None:
    global _forked_with_chdb
    _forked_with_chdb = _forked_with_chdb or "chdb" in sys.modules


# A forked child has chDB's memory without its threads: opening it there hangs for ever.
os.register_at_fork(after_in_child=_after_fork)


class EmbeddedProvider:
    """The way to a ClickHouse inside this process."""

    way: Final = "embedded"

    def why_not(self, wanted: Wanted) -> str | None:
        """Return why chDB cannot be used here, without loading its 533 MB; None when it can."""
        if find_spec("chdb") is None:
            return "chdb-core is not installed: pip install 'pytest-ssot-isolation[embedded]'"
        with contextlib.suppress(PackageNotFoundError):
            # Its versions are those of the ClickHouse within.
            there = version("chdb-core")
            if wanted.version and not f"{there}.".startswith(f"{wanted.version}."):
                return f"chdb-core is version {there}, and {wanted.version} was asked for"
        return None

    def start(self, wanted: Wanted) -> ClickhouseServer:
        """Open the engine, or take the one that is open in this process."""
        return ClickhouseServer(engine(wanted.folder))


@contextlib.contextmanager
def undisturbed_signals() -> Iterator[None]:
    """Put every signal's action and this thread's signal mask back to what they were on entry.

    Opening chDB takes over the signals of a crash, after which a crash hangs instead of ending the process,
    and blocks SIGPIPE, for child processes too. The actions are saved as the system's own structures, so a
    ``faulthandler`` that pytest enabled goes on writing to where pytest told it to.
    """
    libc = ctypes.CDLL(None)
    numbers = [int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}]
    saved = {number: ctypes.create_string_buffer(1024) for number in numbers}
    known = {number: action for number, action in saved.items() if libc.sigaction(number, None, action) == 0}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        yield
    finally:
        for number, action in known.items():
            libc.sigaction(number, action, None)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class ChdbEngine:
    """The one chDB of this process, in a folder of its own.

    Attributes:
        way: Always ``embedded``.
        version: ClickHouse's version, such as ``26.9.2.1``.
    """

    way: Final = "embedded"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._pools: dict[Protections, Pool] = {frozenset(): Pool(0, frozenset())}
        self._pool_of: dict[str, Pool] = {}
        self._clients: weakref.WeakSet[Client] = weakref.WeakSet()
        self._reopenings = 0
        self._admin = self._open()
        self.version: str = str(self._admin.server_version)

    def dsn(self, database: str) -> str:
        """Return where clients of this process find a database; it opens nothing in another process."""
        self._refuse_in_child()
        return f"chdb://{quote(str(self._folder / 'data'))}?database={quote(database)}"

    def connect(self, database: str, **options: Any) -> Client:
        """Open a client; options are those of ``clickhouse_connect.get_client``."""
        import clickhouse_connect

        self._refuse_in_child()
        with self._lock, undisturbed_signals():
            client = clickhouse_connect.get_client(dsn=self.dsn(database), **options)
            self._clients.add(client)
        return client

    def connect_as(self, database: str, tenant: str, **options: Any) -> Client:
        """Open a client for one tenant; chDB has one user, so the tenant is a setting and nothing else."""
        settings = {**(options.pop("settings", None) or {}), "log_comment": tenant}
        return self.connect(database, settings=settings, **options)

    def execute(self, statement: str, database: str | None = None) -> None:
        """Run one statement as the owner, in a database where one is given."""
        self._refuse_in_child()
        with self._lock:
            if database is not None:  # Each change costs a statement of its own.
                self._admin.database = database
            self._admin.raw_query(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query as the owner."""
        self._refuse_in_child()
        with self._lock:
            return list(map(tuple, self._admin.query(query).result_rows))

    def create(self, protections: Protections) -> str:
        """Create an empty database with these protections and return its name."""
        self._refuse_in_child()
        with self._lock:
            name = self._take(protections)
            self.execute(f"CREATE DATABASE {identifier(name)}")
            return name

    def drop(self, name: str) -> None:
        """Drop a database; its name is free for another."""
        self._refuse_in_child()
        with self._lock:
            self.execute(f"DROP DATABASE IF EXISTS {identifier(name)}")
            self._pool_of.pop(name).in_use.discard(name)

    def protect(self, name: str, protections: Protections) -> str:
        """Give a database these protections, and with them a new name, which is returned."""
        self._refuse_in_child()
        with self._lock:
            renamed = self._take(protections)
            self.execute(f"RENAME DATABASE {identifier(name)} TO {identifier(renamed)}")
            self._pool_of.pop(name).in_use.discard(name)
            return renamed

    def release(self) -> None:
        """Keep the engine: opening again would leak, and it ends with the process."""

    def close(self) -> None:
        """Close every client handed out and remove the folder; in a forked child do nothing."""
        if os.getpid() != self._process:
            return
        with self._lock:
            for client in [*self._clients, self._admin]:
                client.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _take(self, protections: Protections) -> str:
        pool = self._pools.get(protections)
        if pool is None:
            pool = Pool(len(self._pools), protections)
            self._reopen({**self._pools, protections: pool})
        while (name := pool.take()) is None:
            pool = Pool(pool.number, protections, pool.size * 2, pool.in_use)
            self._reopen({**self._pools, protections: pool})
        self._pool_of[name] = pool
        return name

    def _reopen(self, pools: dict[Protections, Pool]) -> None:
        """Open again with the policies of these pools: chDB never reads a changed users file while open."""
        self._skip_when_spent()
        if any(not _is_closed(client) for client in self._clients):
            raise EngineInUse.by_clients()
        before, self._pools = self._pools, pools
        self._admin.close()
        self._reopenings += 1
        self._admin = self._open()
        wanted = sum(pool.size * len(pool.protections) for pool in pools.values())
        if self.rows("SELECT count() FROM system.row_policies") != [(wanted,)]:
            # Some client that was not made through us kept the engine, and so its old policies, open.
            self._pools = before
            raise EngineInUse.by_clients()

    def _open(self) -> Client:
        users, config = self._folder / "users.xml", self._folder / "config.xml"
        users.write_text(users_file(list(self._pools.values())), encoding="utf-8")
        config.write_text(config_file(str(users)), encoding="utf-8")
        with undisturbed_signals():
            import clickhouse_connect

            return clickhouse_connect.get_client(
                interface="chdb",
                path=str(self._folder / "data"),
                chdb_options={"config-file": str(config)},
            )

    def _skip_when_spent(self) -> None:
        if self._reopenings >= MOST_REOPENINGS:
            import pytest

            pytest.skip(
                f"chDB was opened anew {self._reopenings} times in this process, and each time keeps memory, "
                "threads and descriptors for ever. To run this test: protect the same tables in the same "
                "way in more tests, spread the tests over more workers (-n), or use a server: "
                "--ssot-clickhouse=container"
            )

    def _refuse_in_child(self) -> None:
        if os.getpid() != self._process:
            raise EngineForked.in_child()


def _is_closed(client: Client) -> bool:
    return bool(getattr(client, "_backend")._closed)  # noqa: B009 (the driver has no public word for it)


_engine: ChdbEngine | None = None
_opening = threading.Lock()


def engine(parent: Path | None = None) -> ChdbEngine:
    """Return this process's engine, opened at the first call and kept until the process ends.

    Args:
        parent: Where its folder is made at the first call; by default where data is written fastest.

    Raises:
        EngineForked: This process was forked from one that had loaded chDB.
    """
    global _engine
    if _forked_with_chdb:
        raise EngineForked.in_child()
    with _opening:
        # After a fork from a process that had only this module: chDB is not loaded here, so it may be opened.
        if _engine is None or _engine._process != os.getpid():
            _engine = ChdbEngine(folders.claim(parent))
            atexit.register(_engine.close)
        return _engine
