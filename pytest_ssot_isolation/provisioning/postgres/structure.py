"""Whether a database is still built as it was: a fingerprint of its catalogue, and a cheaper question before."""

from __future__ import annotations

from typing import Final

COUNTS_AT_ONCE: Final = 15
"""The oldest major version in which a session has told the statistics all it did before it is gone."""
_FIRST_OWN_OID: Final = 16384
_OWN: Final = f"oid >= {_FIRST_OWN_OID}"
_THIS: Final = "SELECT oid FROM pg_database WHERE datname = current_database()"


def _part(catalogue: str, row: str, where: str) -> str:
    return (
        f"SELECT '{catalogue}' || count(*) || ':' ||"
        f" coalesce(sum(hashtextextended({row}, 0)), 0) AS one FROM {catalogue} WHERE {where}"
    )


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
_PARTS: Final = {
    **{name: _part(name, "oid || ' ' || xmin", _OWN) for name in _BY_TRANSACTION},
    # TRUNCATE and VACUUM write these two again and change no structure: their fields are compared.
    "pg_class": _part(
        "pg_class",
        "concat_ws(' ', oid, relname, relnamespace, relowner, relkind, relacl, relrowsecurity,"
        " relforcerowsecurity, relpersistence, reloptions, relispartition, relreplident)",
        f"{_OWN} AND relpersistence <> 't' AND relkind <> 't'",
    ),
    "pg_index": _part(
        "pg_index", "concat_ws(' ', indexrelid, indisunique, indisvalid)", f"indexrelid >= {_FIRST_OWN_OID}"
    ),
    "pg_attribute": _part(
        "pg_attribute", "attrelid || ' ' || attnum || ' ' || xmin", f"attrelid >= {_FIRST_OWN_OID}"
    ),
    "pg_inherits": _part("pg_inherits", "inhrelid || ' ' || xmin", "true"),
    "pg_sequence": _part("pg_sequence", "seqrelid || ' ' || xmin", "true"),
    "pg_namespace": _part("pg_namespace", "oid || ' ' || xmin", "nspname !~ '^pg_(temp|toast_temp)_'"),
    "pg_default_acl": _part("pg_default_acl", "oid || ' ' || xmin", "true"),
    "pg_description": _part("pg_description", "objoid || ' ' || xmin", f"objoid >= {_FIRST_OWN_OID}"),
}
_OF_THE_CLUSTER: Final = (  # Every database writes to these two, so how often they were written to tells nothing.
    _part("pg_db_role_setting", "concat_ws(' ', setrole, setconfig)", f"setdatabase = ({_THIS})"),
    _part("pg_database", "concat_ws(' ', datdba, datacl, datconnlimit)", f"oid = ({_THIS})"),
)


def _all_of(parts: tuple[str, ...]) -> str:
    return f"SELECT string_agg(one, ' ') FROM ({' UNION ALL '.join(parts)}) AS every"


def _writes(catalogue: str) -> str:
    table = f"'pg_catalog.{catalogue}'::regclass::oid"
    return " + ".join(f"pg_stat_get_tuples_{how}({table})" for how in ("inserted", "updated", "deleted"))


FINGERPRINT: Final = _all_of((*_PARTS.values(), *_OF_THE_CLUSTER))
"""Asks for a text that differs once anything of the structure does."""

WRITES: Final = (
    "CASE WHEN current_setting('track_counts')::boolean THEN concat_ws(' ',"
    f" pg_stat_get_db_stat_reset_time(({_THIS})), {', '.join(map(_writes, _PARTS))}, ({_all_of(_OF_THE_CLUSTER)})) END"
)
"""A text that stays the same only as long as nobody writes to the catalogue; NULL where nobody counts.

A tenth of the fingerprint's price. It may be trusted only while no session is left that could have written:
a session tells what it did at its end, or some time later while it lives.
"""
