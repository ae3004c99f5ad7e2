"""A schema is loaded once in a run, into a template that every test's database is a copy of."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from pytest_ssot_isolation.provisioning.postgres.schema import Schema
from pytest_ssot_isolation.provisioning.postgres.slot import Slot


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
