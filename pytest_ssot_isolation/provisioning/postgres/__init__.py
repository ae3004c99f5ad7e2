"""Real PostgreSQL in three ways, and a database of each test's own.

    from pytest_ssot_isolation.provisioning import postgres
    from pytest_ssot_isolation.provisioning.base import Wanted

    with postgres.lease(Wanted(engine="postgres", spec="auto")) as server:      # once in a session
        print(server.version, server.way, server.passed_over)                   # for the header of the run
        with server.new_database(Path("schema.sql")) as database:               # once in a test
            database.dsn, database.owner_dsn, database.url("psycopg")
            database.apply("CREATE TABLE notes (id int)")
            database.reset()
            database.blocked_pids()                                             # from any thread
        database.leftovers                                                      # sessions ended by close()

``lease`` returns a handle usable at once: ``server.close()`` and ``database.close()`` do what leaving the
blocks does. Everything may be called inside a running event loop, where ``apply_async`` and ``reset_async``
do not hold it up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_ssot_isolation.provisioning.base import Provider, Wanted
    from pytest_ssot_isolation.provisioning.postgres.database import PostgresDatabase as PostgresDatabase
    from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer


def providers() -> tuple[Provider[PostgresServer], ...]:
    """Return the ways to PostgreSQL, in the order in which they are tried."""
    from pytest_ssot_isolation.provisioning.postgres.container import Container
    from pytest_ssot_isolation.provisioning.postgres.dsn import Dsn
    from pytest_ssot_isolation.provisioning.postgres.embedded import Embedded

    return (Dsn(), Container(), Embedded())


def lease(wanted: Wanted) -> PostgresServer:
    """Return a server for this worker, reached or started in the first way that is open.

    Args:
        wanted: What the run asks for.

    Returns:
        The server, to be closed, by ``with`` or ``close()``, when the session ends; its ``passed_over``
        holds an ``Attempt`` for each way tried before.

    Raises:
        NoServer: No way is open; the text lists each with its reason.
        ServerError: The one way asked for failed.
    """
    from pytest_ssot_isolation.provisioning import base

    server, server_passed_over = base.obtain(wanted, providers())
    server.passed_over = server_passed_over
    return server
