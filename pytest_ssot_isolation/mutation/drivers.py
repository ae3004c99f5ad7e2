"""Where SQL goes to a driver: each of them is given a place at which a statement may be read and weakened.

Only drivers that the application has imported are touched, and none is imported for this.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from pytest_ssot_isolation.mutation.patches import Patches

if TYPE_CHECKING:
    from pytest_ssot_isolation.mutation.guards import Stage


class OnStatement(Protocol):
    """Reads a statement on its way to the driver, and gives what is sent instead."""

    def __call__(self, sql: str, arguments: Any, dialect: str) -> str: ...


PROVISIONING: Final = "ssot-postgres"
_DIALECTS: Final = {"postgresql": "postgres", "mssql": "tsql", "clickhousedb": "clickhouse"}
_CLICKHOUSE: Final = [
    "query",
    "query_column_block_stream",
    "query_row_block_stream",
    "query_rows_stream",
    "raw_query",
    "raw_stream",
    "query_np",
    "query_np_stream",
    "query_df",
    "query_df_stream",
    "query_arrow",
    "query_arrow_stream",
    "query_df_arrow",
    "query_df_arrow_stream",
    "create_query_context",
    "command",
]


class Taps:
    """Taps at the drivers that are loaded.

    Args:
        patches: Takes the taps away at the end.
        on_statement: Sees each statement.
    """

    def __init__(self, patches: Patches, on_statement: OnStatement) -> None:
        self._patches = patches
        self._on_statement = on_statement
        self._tapped: set[str] = set()

    def refresh(self) -> None:
        """Tap the drivers that were loaded since."""
        for name, tap in _TAPS.items():
            if name in sys.modules and name not in self._tapped:
                self._tapped.add(name)
                tap(self._patches, self._on_statement)


@contextmanager
def tapped(stage: Stage, on_statement: OnStatement) -> Iterator[None]:
    """See every statement of the application, also of drivers that are loaded later on."""

    def on_theirs(sql: str, arguments: Any, dialect: str) -> str:
        # The package's own, such as the reset of a database, are sent from a thread of its own.
        if threading.current_thread().name == PROVISIONING:
            return sql
        return on_statement(sql, arguments, dialect)

    with Patches() as patches:
        taps = Taps(patches, on_theirs)
        taps.refresh()
        stage.entered.append(taps.refresh)
        try:
            yield
        finally:
            stage.entered.remove(taps.refresh)


def _asyncpg(patches: Patches, on_statement: OnStatement) -> None:
    from asyncpg import Connection
    from asyncpg.prepared_stmt import PreparedStatement

    for name in ("execute", "fetch", "fetchrow", "fetchval", "cursor", "copy_from_query"):
        _wrap(patches, Connection, name, lambda sql, rest: on_statement(sql, rest, "postgres"))
    for name in ("executemany", "fetchmany"):
        _wrap(patches, Connection, name, lambda sql, rest: on_statement(sql, _first(rest), "postgres"))
    _wrap(patches, Connection, "prepare", lambda sql, rest: on_statement(sql, None, "postgres"))
    # What a prepared statement compares with is known only when it is run; by then it is on the server.
    for name in ("fetch", "fetchrow", "fetchval", "cursor"):
        _observe(
            patches,
            PreparedStatement,
            name,
            lambda statement, rest: on_statement(statement.get_query(), rest, "postgres"),
        )
    for name in ("executemany", "fetchmany"):
        _observe(
            patches,
            PreparedStatement,
            name,
            lambda statement, rest: on_statement(statement.get_query(), _first(rest), "postgres"),
        )


def _psycopg(patches: Patches, on_statement: OnStatement) -> None:
    import psycopg
    from psycopg.sql import Composable

    def tap(cursor: Any, query: Any, parameters: Any, *, many: bool = False) -> Any:
        if isinstance(query, Composable):
            sql = query.as_string(cursor)
        elif isinstance(query, bytes):
            sql = query.decode("utf-8", "replace")
        elif isinstance(query, str):
            sql = query
        else:
            return query  # a template: its values stand between its parts
        weakened = on_statement(sql, _first((parameters,)) if many else parameters, "postgres")
        return query if weakened == sql else weakened

    for cls in (psycopg.Cursor, psycopg.AsyncCursor, psycopg.ServerCursor, psycopg.AsyncServerCursor):
        for name in ("execute", "executemany", "stream"):
            if name not in vars(cls):
                continue
            original = vars(cls)[name]

            def tapped(
                self: Any, query: Any, params: Any = None, *rest: Any,
                _original: Any = original, _many: bool = name == "executemany", **options: Any,
            ) -> Any:  # fmt: skip
                return _original(self, tap(self, query, params, many=_many), params, *rest, **options)

            patches.put(cls, name, functools.update_wrapper(tapped, original))


def _sqlite(patches: Patches, on_statement: OnStatement) -> None:
    import sqlite3

    original: Any = sqlite3.connect
    _ACTIVE.append(on_statement)
    patches.undo(_ACTIVE.clear)

    @functools.wraps(original)
    def connect(*arguments: Any, **options: Any) -> Any:
        if len(arguments) > 5:  # the class of the connection, by place
            factory = _tapped_connection(arguments[5])
            return original(*arguments[:5], factory, *arguments[6:], **options)
        options["factory"] = _tapped_connection(options.get("factory", sqlite3.Connection))
        return original(*arguments, **options)

    patches.put(sqlite3, "connect", connect)
    patches.put(sqlite3.dbapi2, "connect", connect)


_ACTIVE: list[OnStatement] = []
"""Who sees the statements of connections of sqlite3, which may outlive a tap: the classes are C's own."""


@functools.cache
def _tapped_connection(base: Any) -> Any:
    import sqlite3

    class TappedConnection(base):  # type: ignore[misc]
        def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
            return super().cursor(_tapped_cursor(factory))

        # In C these two pass `cursor` by.
        def execute(self, sql: str, parameters: Any = (), /) -> Any:
            return self.cursor().execute(sql, parameters)

        def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
            return self.cursor().executemany(sql, parameters)

    return TappedConnection


@functools.cache
def _tapped_cursor(base: Any) -> Any:
    if not isinstance(base, type):
        return base

    class TappedCursor(base):  # type: ignore[misc]
        def execute(self, sql: str, parameters: Any = (), /) -> Any:
            for on_statement in _ACTIVE:
                sql = on_statement(sql, parameters, "sqlite")
            return super().execute(sql, parameters)

        def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
            if isinstance(parameters, Iterator):
                return super().executemany(sql, parameters)
            for on_statement in _ACTIVE:
                sql = on_statement(sql, _first((parameters,)), "sqlite")
            return super().executemany(sql, parameters)

    return TappedCursor


def _sqlalchemy(patches: Patches, on_statement: OnStatement) -> None:
    # Here rather than at its driver: it keeps prepared statements by the text that it had compiled.
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def before(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        name = connection.dialect.name
        known = _first((parameters,)) if executemany else parameters
        return on_statement(statement, known, _DIALECTS.get(name, name)), parameters

    event.listen(Engine, "before_cursor_execute", before, retval=True)
    patches.undo(lambda: event.remove(Engine, "before_cursor_execute", before))


def _clickhouse(patches: Patches, on_statement: OnStatement) -> None:
    from clickhouse_connect.driver.client import Client

    def tap(original: Callable[..., Any], named: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def tapped(self: Any, *arguments: Any, **options: Any) -> Any:
            given = arguments[0] if arguments else options.get(named)
            if isinstance(given, str):
                parameters = arguments[1] if len(arguments) > 1 else options.get("parameters")
                sql = on_statement(given, parameters, "clickhouse")
                if arguments:
                    arguments = (sql, *arguments[1:])
                else:
                    options[named] = sql
            return original(self, *arguments, **options)

        return tapped

    for cls in {Client, *_subclasses(Client)}:
        for name in _CLICKHOUSE:
            if name in vars(cls):
                named = "cmd" if name == "command" else "query"
                patches.put(cls, name, tap(vars(cls)[name], named))


_TAPS: Final[dict[str, Callable[[Patches, OnStatement], None]]] = {
    "asyncpg": _asyncpg,
    "psycopg": _psycopg,
    "sqlite3": _sqlite,
    "sqlalchemy": _sqlalchemy,
    "clickhouse_connect.driver.client": _clickhouse,
}


def _wrap(patches: Patches, cls: Any, name: str, read: Callable[[str, tuple[Any, ...]], str]) -> None:
    original = vars(cls)[name]

    @functools.wraps(original)
    def tapped(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
        return original(self, read(query, arguments), *arguments, **options)

    patches.put(cls, name, tapped)


def _observe(patches: Patches, cls: Any, name: str, see: Callable[[Any, tuple[Any, ...]], object]) -> None:
    original = vars(cls)[name]

    @functools.wraps(original)
    def observed(self: Any, *arguments: Any, **options: Any) -> Any:
        see(self, arguments)
        return original(self, *arguments, **options)

    patches.put(cls, name, observed)


def _subclasses(cls: Any) -> Iterator[Any]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _first(arguments: Any) -> Any:
    """The first row of many, so far as it can be looked at without using it up."""
    rows = arguments[0] if arguments else None
    return rows[0] if isinstance(rows, list | tuple) and rows else None
