"""What a test asks a database to hold at its start: files, statements, or a migration to call."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pytest_ssot_isolation.errors import DatabaseUnusable
from pytest_ssot_isolation.provisioning.secret_text import hide_passwords

Schema: TypeAlias = "Path | str | Sequence[Path | str] | Callable[[str], object] | None"

_numbers = itertools.count()
_seen: list[tuple[object, str]] = []


def read_script(sql_or_path: str | Path) -> tuple[str, str]:
    """Return a script's text and what to call it in an error.

    Raises:
        DatabaseUnusable: It names a file that cannot be read.
    """
    looks_like_file = isinstance(sql_or_path, Path) or (
        "\n" not in sql_or_path and ";" not in sql_or_path and sql_or_path.strip().endswith(".sql")
    )
    if not looks_like_file:
        return str(sql_or_path), "The script"
    path = Path(sql_or_path)
    try:
        return path.read_text(encoding="utf-8"), f"The script {path}"
    except (OSError, UnicodeDecodeError) as error:
        raise DatabaseUnusable(
            f"The script {path} cannot be read: {error}.\n"
            f"Give a path from {os.getcwd()}, an absolute one, or the statements themselves."
        ) from None


def failure(error: Any, script: str, origin: str, database: str) -> str:
    """Return what to tell of a script that failed: where, why, and what to do, without passwords."""
    text = f"{origin} failed in the database {database}"
    if error.position:
        before = script[: int(error.position) - 1]
        line = script.splitlines()[before.count("\n")] if script.splitlines() else ""
        text += f", line {before.count(chr(10)) + 1}:\n  {hide_passwords(line.strip())[:200]}\n"
    else:
        text += ":\n"
    text += hide_passwords(f"  {error.args[0] if error.args else error}")
    for more in (error.detail, error.hint):
        text += f"\n  {hide_passwords(more)}" if more else ""
    if error.sqlstate == "53100":
        return f"{text}\nFree some space, or set TMPDIR to a folder with room."
    return (
        f"{text}\nNothing of it was kept; mend the script and run again. It ran as the owner, no superuser."
    )


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
