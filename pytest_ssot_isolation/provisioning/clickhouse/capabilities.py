"""What a ClickHouse can do, found by trying it rather than by its version or its way."""

from __future__ import annotations

import secrets
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_SERVER: Final = "use a server, with --ssot-clickhouse=container or --ssot-clickhouse=DSN"
_ACCESS: Final = f"{_SERVER}, whose user has access management (CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT=1)"

REMEDIES: Final = {
    "users": _ACCESS,
    "row_policy": f"install chdb-core and use --ssot-clickhouse=embedded, or {_ACCESS}",
    "quota": _ACCESS,
    "query_cache": _SERVER,
    "sessions": _SERVER,
    "http": _SERVER,
    "async": f"{_SERVER}, and install clickhouse-connect[async]",
}
"""Every capability, and how to get it."""


class Probed(Protocol):
    """What is needed of an engine to find out what it can do."""

    def dsn(self, database: str) -> str:
        """Return a DSN for ``clickhouse_connect.get_client``."""

    def connect(self, database: str, **options: Any) -> Client:
        """Open a client."""

    def execute(self, statement: str, database: str | None = None) -> None:
        """Run a statement as the owner."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query as the owner."""


def is_there(capability: str, engine: Probed) -> bool:
    """Tell whether a server can do something; nothing that was made to find out stays."""
    name = f"ssot_probe_{secrets.token_hex(6)}"
    match capability:
        case "users":
            return _works(engine, f"CREATE USER {name}", f"DROP USER {name}")
        case "quota":
            return _works(engine, f"CREATE QUOTA {name}", f"DROP QUOTA {name}")
        case "row_policy":
            # chDB takes policies from the users file that our engine writes, and looks each of them up.
            policy = f"ROW POLICY {name} ON {name}.probe"
            return not _is_http(engine) or _works(engine, f"CREATE {policy} USING 0 TO ALL", f"DROP {policy}")
        case "query_cache":
            return _caches_queries(engine, name)
        case "sessions":
            return _is_http(engine) and _keeps_sessions(engine, name)
        case "async":
            # The driver's asynchronous client stands on a package that comes only when asked for.
            return _is_http(engine) and find_spec("aiohttp") is not None
        case _:
            return _is_http(engine)


def _is_http(engine: Probed) -> bool:
    return not engine.dsn("default").startswith("chdb:")


def _works(engine: Probed, statement: str, undo: str) -> bool:
    try:
        engine.execute(statement)
    except Exception:  # Whatever the driver raises, the server refused.
        return False
    engine.execute(undo)
    return True


def _caches_queries(engine: Probed, name: str) -> bool:
    try:
        engine.rows(f"SELECT '{name}' SETTINGS use_query_cache = 1")
        # The search is not cached itself, so it finds the other query or nothing.
        return engine.rows(f"SELECT count() FROM system.query_cache WHERE query LIKE '%{name}%'") == [(1,)]
    except Exception:
        return False


def _keeps_sessions(engine: Probed, name: str) -> bool:
    try:
        client = engine.connect("default", session_id=name)
        try:
            client.command("SET max_block_size = 4711")
            return str(client.command("SELECT getSetting('max_block_size')")) == "4711"
        finally:
            client.close()
    except Exception:
        return False
