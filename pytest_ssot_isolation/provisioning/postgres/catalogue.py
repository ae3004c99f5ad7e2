"""What a database holds, and the statements that bring it back to what its schema left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncpg import Connection

SEED_LIMIT: Final = 8 * 1024**2

_OURS: Final = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_'"
_TABLES: Final = f"""
    SELECT c.relkind::text AS kind, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'S') AND c.relpersistence <> 't' AND {_OURS} ORDER BY c.oid"""


@dataclass(frozen=True, slots=True)
class Emptying:
    """How to bring one structure back to what its schema left in it.

    Attributes:
        script: Empties every table, sets back every sequence.
        at_once: What does the same in one question, to be prepared; empty where that cannot be.
        seeds: The rows that the schema itself put in, by schema and table.
        is_complete: False when the rows are too many to be put back: make a new database instead.
    """

    script: str
    seeds: dict[tuple[str, str], bytes] = field(default_factory=dict, repr=False)
    is_complete: bool = True
    at_once: str = ""


async def describe(connection: Connection, *, is_superuser: bool, as_left_by_schema: bool) -> Emptying:
    """Look at a database and work out how to empty it.

    Args:
        connection: As a superuser, or as a member of the role that owns the tables.
        is_superuser: Whether triggers and foreign keys can be switched off.
        as_left_by_schema: Whether the rows there now are to be put back; they are deleted otherwise.
    """
    found = await connection.fetch(_TABLES)
    tables = [row["name"] for row in found if row["kind"] == "r"]
    sequences = [row["name"] for row in found if row["kind"] == "S"]
    views = [row["name"] for row in found if row["kind"] == "m"]
    seeds: dict[tuple[str, str], bytes] = {}
    is_complete = True
    if as_left_by_schema:
        for table in await _filled(connection, tables):
            schema, name = await connection.fetchval("SELECT parse_ident($1)", table)
            seeds[schema, name] = await _rows(connection, schema, name)
        is_complete = sum(map(len, seeds.values())) <= SEED_LIMIT and (is_superuser or not seeds)
    starts = await _starts(connection, sequences, as_left_by_schema)
    at_once = "" if views or not is_superuser else _question(tables, starts)
    return Emptying(_script(tables, starts, views, is_superuser), seeds, is_complete, at_once)


def _script(tables: Sequence[str], starts: Sequence[str], views: Sequence[str], is_superuser: bool) -> str:
    steps: list[str] = []
    if is_superuser:
        # Neither order, cycles nor triggers matter then; a tenth of what TRUNCATE costs.
        steps.append("SET LOCAL session_replication_role = replica")
        steps += [f"DELETE FROM ONLY {table}" for table in tables]
        steps.append("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
    elif tables:
        # Row security and foreign keys in a circle may both keep an owner's DELETE from emptying a table.
        steps.append(f"TRUNCATE ONLY {', '.join(tables)}")
    if starts:
        steps.append(f"SELECT {', '.join(starts)}")
    steps += [f"REFRESH MATERIALIZED VIEW {view}" for view in views]
    return ";\n".join(steps)


def _question(tables: Sequence[str], starts: Sequence[str]) -> str:
    # Planned once in a session: a third of what the script costs, which is planned each time.
    deletes = ", ".join(f"d{number} AS (DELETE FROM ONLY {table})" for number, table in enumerate(tables))
    told = ("(SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata)", *starts)
    return f"{f'WITH {deletes} ' if deletes else ''}SELECT {', '.join(told)}"


async def _filled(connection: Connection, tables: Sequence[str]) -> list[str]:
    if not tables:
        return []
    each = " UNION ALL ".join(
        f"SELECT {number} AS number WHERE EXISTS (SELECT FROM ONLY {table})"
        for number, table in enumerate(tables)
    )
    return [tables[row["number"]] for row in await connection.fetch(each)]


async def _rows(connection: Connection, schema: str, table: str) -> bytes:
    from io import BytesIO

    rows = BytesIO()
    await connection.copy_from_table(table, schema_name=schema, output=rows, format="binary")
    return rows.getvalue()


async def _starts(connection: Connection, sequences: Sequence[str], as_left_by_schema: bool) -> list[str]:
    if not sequences:
        return []
    if as_left_by_schema:
        query = " UNION ALL ".join(f"SELECT last_value, is_called FROM {sequence}" for sequence in sequences)
        values = [(row["last_value"], row["is_called"]) for row in await connection.fetch(query)]
    else:
        query = "SELECT s.start FROM unnest($1::text[]) WITH ORDINALITY AS n(name, place),"
        query += " LATERAL (SELECT seqstart AS start FROM pg_sequence WHERE seqrelid = n.name::regclass) AS s"
        values = [
            (row["start"], False) for row in await connection.fetch(query + " ORDER BY place", sequences)
        ]
    return [
        f"setval('{sequence.replace(chr(39), chr(39) * 2)}', {value}, {str(called).lower()})"
        for sequence, (value, called) in zip(sequences, values, strict=True)
    ]


async def empty(connection: Connection, how: Emptying, lock_timeout: float, before: str = "") -> None:
    """Run the script; either all of it takes effect or nothing.

    Args:
        connection: As in ``describe``.
        how: What ``describe`` found for this very structure.
        lock_timeout: Seconds to wait for a session that holds a lock on a row or table.
        before: A script to run first, in the same transaction.
    """
    if not how.script and not how.seeds and not before:
        return
    limit = f"SET LOCAL lock_timeout = {max(1, int(lock_timeout * 1000))};\n{before}"
    if not how.seeds:
        try:
            await connection.execute(f"BEGIN;\n{limit};\n{how.script};\nCOMMIT")
        except BaseException:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
        return
    async with connection.transaction():
        await connection.execute(f"{limit};\n{how.script}")
        await put_back(connection, how.seeds)


async def put_back(connection: Connection, seeds: Mapping[tuple[str, str], bytes]) -> None:
    """Fill tables with the rows that the schema itself put in."""
    for (schema, table), rows in seeds.items():
        await connection.copy_to_table(table, schema_name=schema, source=_Source(rows), format="binary")


class _Source:
    """Rows for ``copy_to_table``, which takes bytes for a file's name."""

    def __init__(self, rows: bytes) -> None:
        self._rows = [rows]

    def read(self, size: int = -1) -> bytes:
        return self._rows.pop() if self._rows else b""


async def tables(connection: Connection) -> set[tuple[str, str]]:
    """Return the tables that can hold rows, by schema and name."""
    found = await connection.fetch(
        "SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE relkind = 'r'"
    )
    return {(row["nspname"], row["relname"]) for row in found}
