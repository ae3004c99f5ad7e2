"""ClickHouse in a container: one for all workers of a run, owned by the run's supervisor."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pytest_ssot_isolation.provisioning import docker_engine, lease, ryuk
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.clickhouse.address import Address
from pytest_ssot_isolation.provisioning.clickhouse.database import ClickhouseServer
from pytest_ssot_isolation.provisioning.clickhouse.dsn import HttpBackend, checked_version
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

IMAGE: Final = "clickhouse/clickhouse-server:26.3"
"""The image when none is named: the release line with long support."""

_PORT: Final = 8123
_DATABASE: Final = "ssot_test"
_USER: Final = "ssot"


class ContainerProvider:
    """The way to a server in a container of our own."""

    way: Final = "container"

    def why_not(self, wanted: Wanted) -> str | None:
        """Return why Docker cannot be used here, or None."""
        return docker_engine.why_not()

    def start(self, wanted: Wanted) -> ClickhouseServer:
        """Join the run's container, or start it."""
        timeouts = wanted.timeouts
        if timeouts == DatabaseTimeoutConfig():
            # Nobody chose them: a container's first start takes longer than that of a program.
            timeouts = DatabaseTimeoutConfig.for_environment("container")
        image = wanted.image or _image_of(wanted.version)
        held = lease.lease(
            # One run may ask for several images, each with a container of its own.
            f"clickhouse-{hashlib.sha256(image.encode()).hexdigest()[:8]}",
            f"{__name__}:own",
            {
                "image": image,
                "run_id": wanted.run_id,
                "start": timeouts.start,
                "connect": timeouts.connect,
            },
            run_id=wanted.run_id,
            timeout=timeouts.start + timeouts.pull,
            folder=wanted.folder,
        )
        try:
            facts = held.facts
            address = Address(facts["host"], facts["port"], _USER, _DATABASE, facts["password"])
            version = checked_version(address, wanted)
        except BaseException:
            held.close()
            raise
        server = ClickhouseServer(HttpBackend(address, self.way, version, timeouts, held.close))
        server.notes = (str(facts["ryuk"]),)
        return server


def own(home: Path, parameters: Mapping[str, Any]) -> docker_engine.OwnedContainer:
    """Start the container; called in the run's supervisor.

    Raises:
        ServerFailed: The image is not to be had, or the container did not come up; with its logs.
    """
    from testcontainers.community.clickhouse import ClickHouseContainer

    docker_engine.sweep()
    docker_engine.fetch(parameters["image"], "--ssot-clickhouse-image")
    note = ryuk.arrange()
    password = secrets.token_urlsafe(24)
    container = ClickHouseContainer(
        parameters["image"], port=_PORT, username=_USER, password=password, dbname=_DATABASE
    ).with_env("CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT", "1")

    def is_ready(host: str, port: int) -> bool:
        address = Address(host, port, _USER, _DATABASE, password)
        return address.ask("SELECT 1", parameters["connect"]) == "1"

    host, port = docker_engine.start(
        container,
        home=home,
        port=_PORT,
        run_id=parameters["run_id"],
        is_ready=is_ready,
        timeout=parameters["start"],
    )
    facts = {"host": host, "port": port, "password": password, "ryuk": note}
    return docker_engine.OwnedContainer(container, facts)


def _image_of(version: str | None) -> str:
    return IMAGE if version is None else f"{IMAGE.partition(':')[0]}:{version}"
