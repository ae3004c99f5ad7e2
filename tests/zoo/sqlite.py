"""A database in memory for those rows that need no server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, MetaData, StaticPool, create_engine


@contextmanager
def engine_in_memory(metadata: MetaData) -> Iterator[Engine]:
    """Make an engine on an empty database with these tables, and end both.

    FastAPI keeps functions that served a request, and so whatever they refer to, for the life of the process:
    an engine that is not closed stays with its database and with every statement that it compiled.
    """
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    try:
        metadata.create_all(engine)
        yield engine
    finally:
        engine.dispose()
        engine.clear_compiled_cache()
