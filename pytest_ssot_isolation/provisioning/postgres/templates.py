"""A schema is loaded once in a run, into a template that every test's database is a copy of."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.errors import DatabaseUnusable
from pytest_ssot_isolation.provisioning.postgres.slot import Slot, read_script

if TYPE_CHECKING:
    from pytest_ssot_isolation.provisioning.postgres.database import Schema

_numbers = itertools.count()
_seen: list[tuple[object, str]] = []


@dataclass(slots=True, eq=False)
class Template:
    """What is known of one distinct schema in this worker.

    Attributes:
        name: The template's name on the server.
        free: Databases given back by their tests, ready for the next.
        spare: A copy being made ahead, or waiting ready.
        known: The fingerprint of the structure, and how to empty it; from the first copy.
    """

    name: str
    schema: Schema
    is_loaded: bool = False
    free: list[Slot] = field(default_factory=list)
    spare: asyncio.Task[Slot] | None = None
    known: Any = None
    guard: asyncio.Lock = field(default_factory=asyncio.Lock)


def key_of(schema: Schema) -> str:
    """Return a text that is the same in every worker for the same schema, and differs for another.

    Raises:
        DatabaseUnusable: A file cannot be read.
    """
    if schema is None:
        return "empty"
    if callable(schema):
        return f"callable {_callable_key(schema)}"
    return "\n--\n".join(script for script, _ in map(read_script, scripts_of(schema)))


def scripts_of(schema: Path | str | Sequence[Path | str]) -> tuple[Path | str, ...]:
    """Return the scripts in the order in which they are run."""
    return (schema,) if isinstance(schema, str | Path) else tuple(schema)


def _callable_key(schema: Callable[[str], object]) -> str:
    if inspect.isfunction(schema) and not schema.__closure__ and not schema.__defaults__:
        return f"{schema.__module__}.{schema.__qualname__}:{schema.__code__.co_firstlineno}"
    # A partial, a method or a closure: what it will do cannot be read off, so it is known by itself alone.
    for known, key in _seen:
        if known is schema:
            return key
    key = f"{os.getpid()}-{next(_numbers)}"
    _seen.append((schema, key))
    return key


def digest(key: str) -> str:
    """Return a short name for a key."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


async def migrate(schema: Callable[[str], object], owner_dsn: str) -> None:
    """Call a migration in a thread without a loop, so that it may run one of its own, as Alembic's often do.

    Raises:
        DatabaseUnusable: It failed.
    """

    def call() -> None:
        result = schema(owner_dsn)
        if inspect.iscoroutine(result):
            asyncio.run(result)

    try:
        await asyncio.to_thread(call)
    except Exception as error:
        name = getattr(schema, "__qualname__", type(schema).__name__)
        raise DatabaseUnusable(
            f"The schema could not be loaded: {name} raised {type(error).__name__}.\n"
            "It is called once in a run, with the DSN of the schema's owner; see the cause above."
        ) from error
