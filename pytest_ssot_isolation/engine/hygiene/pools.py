"""Looks at pools that an author names: asyncpg, psycopg, SQLAlchemy and clickhouse-connect, told by their modules."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_ssot_isolation.engine.hygiene.postgres_state import query, state
from pytest_ssot_isolation.engine.hygiene.watch import ADVISORY_LOCK
from pytest_ssot_isolation.errors import SurfaceError

if TYPE_CHECKING:
    from pytest_ssot_isolation.engine.hygiene.watch import State, Watch

P = TypeVar("P")

IN_TRANSACTION = (2, 3)
"""What libpq calls a session whose transaction is open, and one whose transaction failed."""

CLICKHOUSE_CALLS = (
    "query",
    "command",
    "insert",
    "data_insert",
    "raw_query",
    "raw_insert",
    "query_df",
    "query_arrow",
)


def attach(watch: Watch, pool: P) -> P:
    """Look whenever a pool hands a connection to a user of a check that is running.

    Args:
        watch: Takes what is seen.
        pool: An asyncpg pool, a psycopg pool of either kind, an SQLAlchemy engine for PostgreSQL, or a client
            of clickhouse-connect.

    Returns:
        The same pool.

    Raises:
        SurfaceError: It is something else.
    """
    modules = {base.__module__.partition(".")[0] for base in type(pool).__mro__}
    if "asyncpg" in modules:
        return pool  # Looked at without anybody's help.
    if "psycopg_pool" in modules:
        _attach_psycopg(watch, pool)
    elif "sqlalchemy" in modules and _dialect(pool) == "postgresql":
        _attach_sqlalchemy(watch, getattr(pool, "sync_engine", pool))
    elif "clickhouse_connect" in modules:
        _attach_clickhouse(watch, pool)
    else:
        raise SurfaceError(
            f"isolation.watch_pool() cannot look into {type(pool).__module__}.{type(pool).__qualname__}.\n"
            "To fix this, give an asyncpg or psycopg pool, an SQLAlchemy engine for PostgreSQL (the engine, not a "
            "session maker), or a client of clickhouse-connect."
        )
    return pool


def _dialect(engine: Any) -> str | None:
    return getattr(getattr(engine, "dialect", None), "name", None)


# -- psycopg -----------------------------------------------------------------------------------------


def _attach_psycopg(watch: Watch, pool: Any) -> None:
    place = "a pooled psycopg connection"
    original = pool.getconn
    watch.settings.setdefault(ADVISORY_LOCK)  # Its statements pass by unseen.

    def sql_of(connection: Any) -> str | None:
        """The query; None where a failed transaction would not answer it."""
        is_failed = connection.info.transaction_status == IN_TRANSACTION[1]
        return None if is_failed else query(watch.settings)

    def took(connection: Any, row: Any, *, is_open: bool) -> None:
        carried = state(row, in_transaction=is_open) if row is not None else {("transaction", ""): "open"}
        watch.handed_out(connection, place, carried)

    if inspect.iscoroutinefunction(original):

        async def getconn_async(*arguments: Any, **options: Any) -> Any:
            connection = await original(*arguments, **options)
            if not watch.looks:
                watch.unseen(connection)
                return connection
            is_open, row = connection.info.transaction_status in IN_TRANSACTION, None
            try:
                if sql := sql_of(connection):
                    async with connection.cursor(row_factory=_plain_rows) as cursor:
                        await cursor.execute(sql, prepare=False)
                        row = await cursor.fetchone()
                    if not is_open and not connection.autocommit:
                        await connection.rollback()
            except BaseException:
                await pool.putconn(connection)
                raise
            took(connection, row, is_open=is_open)
            return connection

        pool.getconn = getconn_async
        return

    def getconn(*arguments: Any, **options: Any) -> Any:
        connection = original(*arguments, **options)
        if not watch.looks:
            watch.unseen(connection)
            return connection
        is_open, row = connection.info.transaction_status in IN_TRANSACTION, None
        try:
            if sql := sql_of(connection):
                with connection.cursor(row_factory=_plain_rows) as cursor:
                    cursor.execute(sql, prepare=False)
                    row = cursor.fetchone()
                if not is_open and not connection.autocommit:
                    connection.rollback()
        except BaseException:
            pool.putconn(connection)
            raise
        took(connection, row, is_open=is_open)
        return connection

    pool.getconn = getconn


def _plain_rows(cursor: Any) -> Any:
    return tuple


# -- SQLAlchemy --------------------------------------------------------------------------------------


def _attach_sqlalchemy(watch: Watch, engine: Any) -> None:
    from sqlalchemy import event

    def learn(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        watch.learn(statement, parameters)

    def checked_out(dbapi_connection: Any, record: Any, _proxy: Any) -> None:
        driver = record.driver_connection
        if not watch.looks:
            watch.unseen(driver)
            return
        is_open = _is_open(driver)
        cursor = dbapi_connection.cursor()
        try:
            cursor.execute(query(watch.settings))
            carried: State = state(cursor.fetchone(), in_transaction=is_open)
        except Exception:
            if not is_open:
                raise
            carried = {("transaction", ""): "open"}
        finally:
            cursor.close()
        if not is_open:
            dbapi_connection.rollback()  # The driver began a transaction for the query.
        watch.handed_out(driver, "a connection of the SQLAlchemy pool", carried)

    event.listen(engine, "before_cursor_execute", learn)
    event.listen(engine, "checkout", checked_out)


def _is_open(driver: Any) -> bool:
    if hasattr(driver, "is_in_transaction"):
        return bool(driver.is_in_transaction())
    status = getattr(getattr(driver, "info", None), "transaction_status", 0)
    return status in IN_TRANSACTION


# -- clickhouse-connect ------------------------------------------------------------------------------


def _attach_clickhouse(watch: Watch, client: Any) -> None:
    inner = getattr(client, "client", client)

    def look() -> None:
        if not watch.looks:
            watch.unseen(inner)
            return
        carried: dict[tuple[str, str], str] = {}
        for name, value in dict(getattr(inner, "params", {})).items():
            carried[("session", "") if name == "session_id" else ("setting", name)] = str(value)
        carried["setting", "database"] = str(getattr(inner, "database", ""))
        watch.handed_out(inner, "a shared ClickHouse client", carried)

    def looking(call: Any) -> Any:
        def made(*arguments: Any, **options: Any) -> Any:
            look()
            return call(*arguments, **options)

        return made

    for name in CLICKHOUSE_CALLS:
        if callable(call := getattr(client, name, None)):
            setattr(client, name, looking(call))
