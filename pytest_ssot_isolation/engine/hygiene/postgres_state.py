"""What a PostgreSQL session carries, read in one query that any driver can send."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pytest_ssot_isolation.engine.hygiene.watch import State

PATIENCE = 5.0
"""Seconds that the query may take; it reads catalogues only."""

# Settings are asked for by name: PostgreSQL lists no custom ones, and its list of the others costs more than
# all the rest. Those that row policies read are found in the policies. The conditions on a parameter alone and
# on the temporary schema are tested before anything is scanned. A name that comes twice is dropped where the values are
# gathered, once: a plain UNION would look for it a first time, which was a quarter of the whole.
_QUERY = r"""
SELECT current_user::text, session_user::text, current_setting('search_path'),
 (SELECT array_agg(DISTINCT n || '=' || current_setting(n, true)) FROM (
   SELECT unnest(string_to_array({names}, ',')) AS n
   UNION ALL SELECT (regexp_matches(
     coalesce(pg_get_expr(polqual, polrelid), '') || coalesce(pg_get_expr(polwithcheck, polrelid), ''),
     'current_setting\(''([a-zA-Z0-9_.]+)''', 'g'))[1] FROM pg_catalog.pg_policy) AS asked
   WHERE nullif(current_setting(n, true), '') IS NOT NULL),
 (SELECT array_agg(relname::text) FROM pg_catalog.pg_class
   WHERE pg_my_temp_schema() <> 0 AND relnamespace = pg_my_temp_schema() AND relkind IN ('r', 'v', 'S')),
 (SELECT array_agg(name) FROM pg_catalog.pg_prepared_statements WHERE from_sql),
 (SELECT array_agg(c) FROM pg_catalog.pg_listening_channels() AS c),
 (SELECT array_agg(name) FROM pg_catalog.pg_cursors WHERE is_holdable),
 (SELECT array_agg(concat_ws(':', classid, objid, objsubid)) FROM pg_catalog.pg_locks
   WHERE strpos({names}, 'advisory_lock') > 0
   AND locktype = 'advisory' AND pid = pg_backend_pid() AND granted)
"""

_MANY = ("setting", "temporary table", "prepared statement", "channel", "cursor", "advisory lock")


def query(settings: Iterable[str]) -> str:
    """The query, as text without parameters: with one it would be planned anew each time.

    Args:
        settings: Names of the settings to ask for; letters, digits, dots and underlines only.
    """
    return _QUERY.replace("{names}", f"'{','.join(settings)}'::text")


def state(row: Sequence[Any], *, in_transaction: bool = False) -> State:
    """What the answer says, and whether a transaction is open."""
    role, session, search_path, *lists = row
    carried = {("role", ""): role, ("search_path", ""): search_path, ("session user", ""): session}
    for kind, values in zip(_MANY, lists, strict=True):
        for value in sorted(values or ()):
            name, _, holds = value.partition("=") if kind == "setting" else (value, "", "")
            carried[kind, name] = holds
    if in_transaction:
        carried["transaction", ""] = "open"
    return carried
