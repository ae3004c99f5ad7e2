"""Looks at the connections of asyncpg's pools, whoever made them, while a check is running."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import ref

from pytest_ssot_isolation.engine.hygiene.postgres_state import PATIENCE, query, state

if TYPE_CHECKING:
    from pytest_ssot_isolation.engine.hygiene.watch import State, Watch

PLACE = "a pooled asyncpg connection"


def install(watch: Watch) -> None:
    """Look whenever any pool hands a connection out, until the watch is closed.

    Where the application does not use asyncpg, nothing is imported and nothing changed.
    """
    module = sys.modules.get("asyncpg.pool")
    if module is None or getattr(module.PoolConnectionHolder.acquire, "watch", None) is watch:
        return
    holders = module.PoolConnectionHolder
    original = holders.acquire

    async def acquire(self: Any) -> Any:
        if not watch.looks:
            given = await original(self)
            watch.unseen(self._con)
            return given
        setup = self._setup

        async def looked(proxy: Any) -> None:
            connection, kept = self._con, None
            watch.passing.add(connection)
            try:
                carried = await _state(watch, connection)
                if setup is not None:
                    await setup(proxy)
                    kept = await _state(watch, connection)
                if carried is not None:
                    watch.handed_out(connection, PLACE, carried, kept)
            finally:
                watch.passing.discard(connection)

        # The look stands where the application's own hook does: whatever goes wrong there, the pool mends.
        self._setup = looked
        try:
            return await original(self)
        finally:
            self._setup = setup

    def undo() -> None:
        if holders.acquire is acquire:
            holders.acquire = original

    acquire.watch = watch  # type: ignore[attr-defined]
    holders.acquire = acquire
    watch.undo.append(undo)


def _listen(watch: Watch, connection: Any) -> None:
    weakly = ref(connection)

    def heard(statement: Any) -> None:
        watch.learn(statement.query, statement.args)
        if (sender := weakly()) is not None:
            watch.used(sender, "asyncpg connection")

    connection.add_query_logger(heard)
    watch.heard.add(connection)

    def deaf() -> None:
        if (left := weakly()) is not None:
            left.remove_query_logger(heard)

    watch.undo.append(deaf)


async def _state(watch: Watch, connection: Any) -> State | None:
    import asyncpg

    if connection not in watch.heard:
        _listen(watch, connection)
    loggers, connection._query_loggers = connection._query_loggers, set()
    try:
        row = await asyncpg.Connection.fetchrow(connection, query(watch.settings), timeout=PATIENCE)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
        if connection.is_closed():
            # Dropped during the look. Were this hidden, the pool would hand out a connection that its holder has
            # let go of already, and the holder would stay in use for ever.
            raise
        # In a transaction that failed no query is answered; that it is open is told all the same.
        is_open = not connection.is_closed() and connection.is_in_transaction()
        return {("transaction", ""): "open"} if is_open else None
    finally:
        connection._query_loggers = loggers
    return state(row, in_transaction=connection.is_in_transaction())
