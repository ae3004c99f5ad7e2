"""Servers by engine, each leased at its first use; and schemas by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_ssot_isolation.errors import Attempt, DatabaseUnusable
from pytest_ssot_isolation.provisioning.base import Wanted

if TYPE_CHECKING:
    from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig


class Asked(Protocol):
    """As much of a run's settings as servers need to know."""

    @property
    def postgres(self) -> str: ...
    @property
    def clickhouse(self) -> str: ...
    @property
    def postgres_image(self) -> str: ...
    @property
    def clickhouse_image(self) -> str: ...


def on_first_use(
    asked: Asked, timeouts: DatabaseTimeoutConfig, until_the_end: ExitStack, *, tell: Callable[[str], object]
) -> Callable[..., Any]:
    """Return a function that gives the server of an engine, leased when it is first asked for.

    Args:
        asked: What the run's options say.
        timeouts: In seconds.
        until_the_end: Closes what was leased.
        tell: Is given a line on each server: engine, version, way, and why other ways were passed over.

    Returns:
        A function of the engine, and of ``version`` and ``image`` where a test needs others than the run.
    """
    leased: dict[tuple[str, str | None, str | None], Any] = {}

    def server(engine: str, *, version: str | None = None, image: str | None = None) -> Any:
        key = (engine, None if version is None else str(version), image)
        if key not in leased:
            wanted = Wanted(
                engine=engine,
                spec=getattr(asked, engine),
                image=image or getattr(asked, f"{engine}_image") or None,
                version=key[1],
                timeouts=timeouts,
            )
            leased[key] = until_the_end.enter_context(_lease(wanted))
            tell(line(leased[key]))
        return leased[key]

    return server


def line(server: Any) -> str:
    """Return what a run should say of a server, in one line without a DSN."""
    passed: Sequence[Attempt] = server.passed_over if server.engine == "postgres" else server.passed
    why = "; ".join(f"{attempt.way}: {' '.join(attempt.reason.split())}" for attempt in passed)
    notes = "; ".join(getattr(server, "notes", ()))
    more = "".join(f" ({part})" for part in (f"passed over {why}" if why else "", notes) if part)
    return f"{server.engine} {server.version} {server.way}{more}"


def find_schema(schema: Any, places: Sequence[Path]) -> Any:
    """Return a schema with its files found; callables and SQL text stay as they are.

    Args:
        schema: A file's name, SQL (told by a semicolon), a list of these, a callable, or None.
        places: Folders in which a relative name is looked for, in order.

    Raises:
        DatabaseUnusable: There is no such file; the text lists the places.
    """
    if isinstance(schema, list | tuple):
        return [find_schema(one, places) for one in schema]
    if schema is None or callable(schema) or (isinstance(schema, str) and ";" in schema):
        return schema
    candidates = list(dict.fromkeys(place / schema for place in places))
    for path in candidates:
        if path.is_file():
            return path
    raise DatabaseUnusable(
        f"There is no schema file {str(schema)!r}. Looked for, in order:\n"
        + "".join(f"  - {path}\n" for path in candidates)
        + "Name a file beside the test or below the root, files, or a callable given the owner's DSN."
    )


def _lease(wanted: Wanted) -> Any:
    if wanted.engine == "postgres":
        from pytest_ssot_isolation.provisioning import postgres

        return postgres.lease(wanted)
    from pytest_ssot_isolation.provisioning import clickhouse

    return clickhouse.lease(wanted)
