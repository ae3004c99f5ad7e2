"""PostgreSQL as a child of a supervisor: nothing to install but a wheel, nothing left when the run ends."""

from __future__ import annotations

import importlib
import os
import threading
from dataclasses import dataclass
from functools import partial
from typing import Final

from pytest_ssot_isolation.errors import ServerFailed
from pytest_ssot_isolation.provisioning import lease
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.postgres import kept, programs
from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer

STARTER: Final = "pytest_ssot_isolation.provisioning.postgres.postmaster:start"
SUPERUSER: Final = "postgres"


@dataclass(frozen=True, slots=True)
class Embedded:
    """The embedded way to PostgreSQL."""

    way: str = "embedded"

    def why_not(self, wanted: Wanted) -> str | None:
        """Return why no embedded server can be started here, or None."""
        if os.name != "posix":
            return "embedded servers need a POSIX system"
        found = programs.find(wanted.version)
        return found if isinstance(found, str) else None

    def start(self, wanted: Wanted) -> PostgresServer:
        """Join this run's embedded server, starting it when this is the first worker to ask.

        Raises:
            ServerFailed: It did not start, in its own words.
        """
        found = programs.find(wanted.version)
        if isinstance(found, str):
            raise ServerFailed(f"No embedded PostgreSQL: {found}.")
        # The driver takes as long to load as the server to start, so both happen at once.
        threading.Thread(target=importlib.import_module, args=("asyncpg",)).start()
        place = kept.folder(found.version)
        share = lease.lease(
            f"postgres-{found.version}",
            STARTER,
            {
                "programs": str(found.folder),
                "version": found.version,
                "kept": None if place is None else str(place),
                "timeout": wanted.timeouts.start,
            },
            run_id=wanted.run_id,
            timeout=wanted.timeouts.start,
            folder=wanted.folder,
            prepare=None if place is None else partial(kept.take, place),
        )
        facts = share.facts
        return PostgresServer(
            admin_dsn=f"postgresql://{SUPERUSER}:{facts['password']}@127.0.0.1:{facts['port']}/postgres",
            version=found.version,
            way=self.way,
            wanted=wanted,
            share=share,
        )
