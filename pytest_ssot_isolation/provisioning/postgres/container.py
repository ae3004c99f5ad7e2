"""PostgreSQL in a container: one for all workers of a run, owned by the run's supervisor."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pytest_ssot_isolation.errors import ServerFailed
from pytest_ssot_isolation.provisioning import docker_engine, lease, ryuk
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.postgres.address import Address
from pytest_ssot_isolation.provisioning.postgres.programs import OLDEST
from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

IMAGE: Final = "postgres:18.4"
"""The image when none is named."""

_PORT: Final = 5432
_USER: Final = "postgres"
# The data dies with the container, so nothing is gained by waiting for a disk.
_SETTINGS: Final = (
    "-c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=300 -c jit=off"
)


@dataclass(frozen=True, slots=True)
class Container:
    """The way to a server in a container of our own."""

    way: str = "container"

    def why_not(self, wanted: Wanted) -> str | None:
        """Return why Docker cannot be used here, or None."""
        return docker_engine.why_not()

    def start(self, wanted: Wanted) -> PostgresServer:
        """Join the run's container, or start it.

        Raises:
            ServerFailed: The image is not to be had, or the container did not come up; with its logs.
        """
        timeouts = wanted.timeouts
        if timeouts == DatabaseTimeoutConfig():
            # Nobody chose them: a container's first start takes longer than that of a program.
            timeouts = DatabaseTimeoutConfig.for_environment("container")
        share = lease.lease(
            "postgres-container",
            f"{__name__}:own",
            {
                "image": wanted.image or _image_of(wanted.version),
                "run_id": wanted.run_id,
                "start": timeouts.start,
                "connect": timeouts.connect,
            },
            run_id=wanted.run_id,
            timeout=timeouts.start + timeouts.pull,
            folder=wanted.folder,
        )
        facts = share.facts
        try:
            if int(facts["version"].partition(".")[0]) < OLDEST:
                raise ServerFailed(
                    f"The image {wanted.image} holds PostgreSQL {facts['version']}, which is too old.\n"
                    f"Name one of PostgreSQL {OLDEST} or later: --ssot-postgres-image=IMAGE."
                )
            place = Address(facts["host"], facts["port"], _USER, "postgres", facts["password"])
            server = PostgresServer(
                admin_dsn=place.url(),
                version=facts["version"],
                way=self.way,
                wanted=replace(wanted, timeouts=timeouts),
                share=share,
            )
        except BaseException:
            share.close()
            raise
        server.notes = (str(facts["ryuk"]),)
        return server


def own(home: Path, parameters: Mapping[str, Any]) -> docker_engine.OwnedContainer:
    """Start the container; called in the run's supervisor.

    Raises:
        ServerFailed: The image is not to be had, or the container did not come up; with its logs.
    """
    from testcontainers.community.postgres import PostgresContainer

    docker_engine.sweep()
    docker_engine.fetch(parameters["image"], "--ssot-postgres-image")
    note = ryuk.arrange()
    password = secrets.token_hex(16)
    container = PostgresContainer(
        parameters["image"], port=_PORT, username=_USER, password=password, dbname="postgres", driver=None
    ).with_command(_SETTINGS)
    seen: dict[str, str] = {}

    def is_ready(host: str, port: int) -> bool:
        seen["version"] = asyncio.run(
            _version(Address(host, port, _USER, "postgres", password), parameters["connect"])
        )
        return True

    host, port = docker_engine.start(
        container,
        home=home,
        port=_PORT,
        run_id=parameters["run_id"],
        is_ready=is_ready,
        timeout=parameters["start"],
    )
    facts = {"host": host, "port": port, "password": password, "ryuk": note, **seen}
    return docker_engine.OwnedContainer(container, facts)


async def _version(place: Address, timeout: float) -> str:  # noqa: ASYNC109
    import asyncpg

    connection = await asyncpg.connect(place.url(), timeout=timeout)
    try:
        version: str = await connection.fetchval("SHOW server_version")
        return version.split()[0]
    finally:
        await connection.close()


def _image_of(version: str | None) -> str:
    return IMAGE if version is None else f"{IMAGE.partition(':')[0]}:{version}"
