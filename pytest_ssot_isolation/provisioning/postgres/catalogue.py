"""What is in a database: a fingerprint of its structure, and the script that empties it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncpg import Connection

SEED_LIMIT: Final = 8 * 1024**2
_FIRST_OWN_OID: Final = 16384

# Rows of these change only when their object does, so the transaction that wrote it stands for its contents.
_BY_TRANSACTION: Final = (
    *(
        "pg_proc",
        "pg_type",
        "pg_constraint",
        "pg_trigger",
        "pg_policy",
        "pg_attrdef",
        "pg_rewrite",
        "pg_enum",
    ),
    *("pg_extension", "pg_operator", "pg_cast", "pg_collation", "pg_statistic_ext", "pg_publication"),
    *("pg_foreign_server", "pg_ts_config", "pg_event_trigger", "pg_language"),
)


def _fingerprint_query() -> str:
    def part(catalogue: str, row: str, where: str) -> str:
        return (
            f"SELECT '{catalogue}' || count(*) || ':' ||"
            f" coalesce(sum(hashtextextended({row}, 0)), 0) AS one FROM {catalogue} WHERE {where}"
        )

    own = f"oid >= {_FIRST_OWN_OID}"
    parts = [part(name, "oid || ' ' || xmin", own) for name in _BY_TRANSACTION]
    parts += [
        # TRUNCATE and VACUUM write these two again and change no structure: their fields are compared.
        part(
            "pg_class",
            "concat_ws(' ', oid, relname, relnamespace, relowner, relkind, relacl, relrowsecurity,"
            " relforcerowsecurity, relpersistence, reloptions, relispartition, relreplident)",
            f"{own} AND relpersistence <> 't' AND relkind <> 't'",
        ),
        part(
            "pg_index",
            "concat_ws(' ', indexrelid, indisunique, indisvalid)",
            f"indexrelid >= {_FIRST_OWN_OID}",
        ),
        part("pg_attribute", "attrelid || ' ' || attnum || ' ' || xmin", f"attrelid >= {_FIRST_OWN_OID}"),
        part("pg_inherits", "inhrelid || ' ' || xmin", "true"),
        part("pg_sequence", "seqrelid || ' ' || xmin", "true"),
        part("pg_namespace", "oid || ' ' || xmin", "nspname !~ '^pg_(temp|toast_temp)_'"),
        part("pg_default_acl", "oid || ' ' || xmin", "true"),
        part("pg_description", "objoid || ' ' || xmin", f"objoid >= {_FIRST_OWN_OID}"),
        part("pg_db_role_setting", "concat_ws(' ', setrole, setconfig)", f"setdatabase = ({_THIS})"),
        part("pg_database", "concat_ws(' ', datdba, datacl, datconnlimit)", f"oid = ({_THIS})"),
    ]
    return f"SELECT string_agg(one, ' ') FROM ({' UNION ALL '.join(parts)}) AS every"


_THIS: Final = "SELECT oid FROM pg_database WHERE datname = current_database()"
FINGERPRINT: Final = _fingerprint_query()

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
        seeds: The rows that the schema itself put in, by schema and table.
        is_complete: False when the rows are too many to be put back: make a new database instead.
    """

    script: str
    seeds: dict[tuple[str, str], bytes] = field(default_factory=dict, repr=False)
    is_complete: bool = True


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
    return Emptying(_script(tables, starts, views, is_superuser), seeds, is_complete)


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
        for (schema, table), rows in how.seeds.items():
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
