"""Containers of this run on a Docker engine: watched while they start, and removed for sure.

The code of each server's container runs in the run's supervisor (`lease.lease`), which owns the container.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_ssot_isolation.errors import ServerFailed
from pytest_ssot_isolation.provisioning import home as folder
from pytest_ssot_isolation.provisioning import processes

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from testcontainers.core.container import DockerContainer

_LABEL: Final = "ssot-isolation"
_PATIENCE: Final = 5  # Seconds for one short question to the engine.
_EACH: Final = 0.05
_USUAL_SOCKET: Final = "/var/run/docker.sock"
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


def why_not() -> str | None:
    """Return why no Docker engine can be used here, in one line, or None; asks for at most some seconds."""
    try:
        if path := _unix_socket():
            # Docker's client takes long to load, and leaves a socket open that it could not connect.
            with socket.socket(socket.AF_UNIX) as knock:
                knock.settimeout(_PATIENCE)
                knock.connect(path)
        with _client() as client:
            client.ping()
    except Exception as error:  # docker, requests and testcontainers each raise their own.
        return _trouble(error)
    return None


def has_image(image: str) -> bool:
    """Tell whether an image is on the engine already."""
    from docker.errors import ImageNotFound

    with _client() as client:
        try:
            client.images.get(image)
        except ImageNotFound:
            return False
        return True


def have(image: str, timeout: float | None = _PATIENCE) -> None:
    """Pull an image unless it is on the engine already; the timeout, in seconds, is that of one sign of life."""
    if not has_image(image):
        with _client(timeout) as client:
            client.images.pull(image)


def fetch(image: str, option: str) -> None:
    """Have an image on the engine.

    Args:
        image: Name and tag.
        option: Names another image, for the error.

    Raises:
        ServerFailed: It is neither here nor to be had.
    """
    from docker.errors import DockerException

    try:
        have(image, timeout=None)
    except DockerException as error:
        raise ServerFailed(
            f"The image {image} is not on the Docker engine and could not be pulled: {one_line(error)}\n"
            "To fix this, do one of:\n"
            f"  - pull it where there is a network: docker pull {image}\n"
            f"  - name an image that is here: {option}=IMAGE"
        ) from error


@dataclass(slots=True)
class OwnedContainer:
    """A running container as its supervisor sees it.

    Attributes:
        container: As testcontainers made it.
        facts: What the clients need to know, as plain data.
    """

    container: DockerContainer
    facts: dict[str, Any]

    def trouble(self) -> str | None:
        """Return why the container is gone, with its last words, or None while it runs."""
        return _why_ended(self.container.get_wrapped_container())

    def stop(self) -> None:
        """Remove the container and its volumes."""
        with contextlib.suppress(Exception):  # Removed by somebody else, or the engine is gone.
            self.container.stop()


def start(
    container: DockerContainer,
    *,
    home: Path,
    port: int,
    run_id: str,
    is_ready: Callable[[str, int], bool],
    timeout: float,
) -> tuple[str, int]:
    """Start a container and wait until its server answers, or until it is plain that it will not.

    Args:
        container: Made, not started; its own way of waiting is not used, since that does not notice a
            container that has exited.
        home: The supervisor's folder, which remembers the container should the supervisor be killed.
        port: The server's port inside the container.
        run_id: The run that the container is for.
        is_ready: Given host and port, whether the server answers; an exception means not yet.
        timeout: Seconds until the server has to answer.

    Returns:
        Host and port where the server answers.

    Raises:
        ServerFailed: The container could not start, has exited, or did not answer in time; with its logs.
    """
    from docker.errors import DockerException
    from testcontainers.core.container import DockerContainer

    deadline = time.monotonic() + timeout
    _on_loopback_only(container, port)
    container.with_kwargs(labels=_labels(run_id))
    try:
        # The class's own start, since a subclass's goes on to wait in its own way.
        DockerContainer.start(container)
        started = container.get_wrapped_container()
        folder.remember(home, container=started.id)
        last: Exception | None = None
        while time.monotonic() < deadline:
            if ended := _why_ended(started):
                raise ServerFailed(ended)
            try:
                host, mapped = container.get_container_host_ip(), _mapped(container, port)
                if is_ready(host, mapped):
                    return host, mapped
            except Exception as error:  # Whatever a driver raises at a server that is not up yet.
                last = error
            time.sleep(_EACH)
        raise ServerFailed(
            f"The container of {container.image} runs but did not answer on port {port} within {timeout:g} s"
            f"{f' ({one_line(last)})' if last else ''}.\nIt said:\n{_last_words(started)}\n"
            "Allow more time (the time-out named 'start'). Inside a container beside its own Docker engine, "
            "set TESTCONTAINERS_CONNECTION_MODE=docker_host and TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1."
        )
    except BaseException as error:
        with contextlib.suppress(Exception):
            container.stop()
        if isinstance(error, DockerException):
            raise ServerFailed(
                f"Docker could not start a container of {container.image}: {one_line(error)}\n"
                "Look at the engine with `docker info` and `docker ps -a`."
            ) from error
        raise


def remove(container_id: str) -> None:
    """Remove a container, running or not; one that is gone already is no trouble."""
    with contextlib.suppress(Exception), _client() as client:
        client.containers.get(container_id).remove(force=True, v=True)


def sweep() -> list[str]:
    """Remove the containers of this machine's dead runs: those whose supervisor is gone.

    Returns:
        Their ids. A container of another machine, or of another container on the same engine, is never
        touched: whether its supervisor lives cannot be told from here.
    """
    removed = []
    with _client() as client:
        mine: dict[str, str | list[str] | bool] = {"label": f"{_LABEL}.machine={_machine()}"}
        for container in client.containers.list(all=True, filters=mine, ignore_removed=True):
            owner = container.labels.get(f"{_LABEL}.supervisor", "")
            pid, _, born = owner.partition(" ")
            if pid.isdigit() and born and processes.born(int(pid)) != born:
                remove(str(container.id))
                removed.append(str(container.id))
    return removed


def _labels(run_id: str) -> dict[str, str]:
    return {
        f"{_LABEL}.run": run_id,
        f"{_LABEL}.machine": _machine(),
        f"{_LABEL}.supervisor": f"{os.getpid()} {processes.born(os.getpid())}",
    }


def _machine() -> str:
    """Where process ids mean the same as here: this host, since it was started, and this set of processes."""
    facts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        facts.append(str(os.readlink("/proc/self/ns/pid")))
    return " ".join(facts)


def _on_loopback_only(container: DockerContainer, port: int) -> None:
    """Publish the one port, and to this machine only where the engine is reached through loopback."""
    from testcontainers.core.config import ConnectionMode

    client = container.get_docker_client()
    container.ports.clear()
    container.with_exposed_ports(port)
    if client.get_connection_mode() is ConnectionMode.docker_host and client.host() in _LOOPBACK:
        container.ports[str(port)] = ("127.0.0.1", None)  # type: ignore[assignment]


def _mapped(container: DockerContainer, port: int) -> int:
    client = container.get_docker_client()
    if not client.get_connection_mode().use_mapped_port:
        return port
    return int(client.port(container.get_container_id(), port))


def _why_ended(container: Container) -> str | None:
    from docker.errors import DockerException

    try:
        container.reload()
    except (DockerException, OSError) as error:
        return f"The container is gone: {one_line(error)}"
    if container.status in ("created", "running", "restarting"):
        return None
    state = container.attrs["State"]
    because = " (out of memory)" if state.get("OOMKilled") else ""
    return (
        f"The container of {container.attrs['Config']['Image']} {container.status} with status "
        f"{state.get('ExitCode')}{because}.\nIt said:\n{_last_words(container)}"
    )


def _last_words(container: Container, lines: int = 12) -> str:
    with contextlib.suppress(Exception):
        told = container.logs(tail=lines).decode(errors="replace").strip()
        return "\n".join(f"  {line}" for line in told.splitlines()) or "  nothing"
    return "  nothing"


def _unix_socket() -> str | None:
    """Return the engine's socket where there is no doubt which it is."""
    if host := os.environ.get("DOCKER_HOST"):
        return host.removeprefix("unix://") if host.startswith("unix://") else None
    home = Path.home()
    if (home / ".docker/config.json").exists() or (home / ".testcontainers.properties").exists():
        return None  # Either may name another engine.
    return _USUAL_SOCKET


@contextlib.contextmanager
def _client(timeout: float | None = _PATIENCE) -> Iterator[DockerClient]:
    from testcontainers.core.docker_client import DockerClient as Wrapped

    client: DockerClient = Wrapped(timeout=timeout).client
    try:
        yield client
    finally:
        client.close()


def _trouble(error: Exception) -> str:
    told = one_line(error)
    if isinstance(error, FileNotFoundError) and "DOCKER_HOST" not in os.environ:
        return f"Docker is not here (no {_USUAL_SOCKET}, and DOCKER_HOST is not set)"
    if "Permission denied" in told:
        return (
            "the Docker socket may not be opened by this user: join the group that owns it "
            "(usually `usermod -aG docker USER`), or set DOCKER_HOST"
        )
    return f"Docker does not answer: {told}"


def one_line(error: Exception) -> str:
    """Return an error's own words, cut, to be quoted in a sentence."""
    explanation = getattr(error, "explanation", None) or str(error)
    return " ".join(str(explanation).split())[:300]
