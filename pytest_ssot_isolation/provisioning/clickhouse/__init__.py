"""A real ClickHouse: given by DSN, in a container, or embedded (chDB); then an empty database in it.

    with clickhouse.lease(Wanted(engine="clickhouse", spec="embedded")) as server:      # once per session
        with server.new_database("schema.sql", protect={"events": "tenant_id"}) as db:  # once per test
            clickhouse_connect.get_client(dsn=db.dsn)      # what the application is given
            db.connect_as(alice).query("SELECT * FROM events")
            db.reset()

`lease` raises `NoServer` with all ways that were tried; `server.passed` names those passed over.
"""

from __future__ import annotations

from pytest_ssot_isolation.errors import IsolationError
from pytest_ssot_isolation.provisioning.base import Provider, Wanted, obtain
from pytest_ssot_isolation.provisioning.clickhouse.container import ContainerProvider
from pytest_ssot_isolation.provisioning.clickhouse.database import ClickhouseDatabase as ClickhouseDatabase
from pytest_ssot_isolation.provisioning.clickhouse.database import ClickhouseServer as ClickhouseServer
from pytest_ssot_isolation.provisioning.clickhouse.dsn import DsnProvider
from pytest_ssot_isolation.provisioning.clickhouse.embedded import EmbeddedProvider


def providers() -> list[Provider[ClickhouseServer]]:
    """Return every way to ClickHouse."""
    return [DsnProvider(), ContainerProvider(), EmbeddedProvider()]


def lease(wanted: Wanted) -> ClickhouseServer:
    """Reach or start a ClickHouse server.

    Args:
        wanted: Which server; its ``spec`` names the ways to try.

    Returns:
        The server, to be closed or used in ``with``.

    Raises:
        NoServer: No way could be gone; the text lists each with its reason.
        EngineForked: This process was forked from one that had loaded chDB.
    """
    try:
        server, passed = obtain(wanted, providers())
    except IsolationError as error:
        # A traceback shows what is in its frames, and those below hold the DSN. The text tells enough.
        raise error.with_traceback(None) from None
    server.passed = passed
    return server
