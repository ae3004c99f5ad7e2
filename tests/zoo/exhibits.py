"""What the modules of the zoo are made of: one surface, and two applications that differ in one mistake."""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_ssot_isolation.surfaces.base import Surface

TABLE = Path(__file__).parents[2] / "fixtures" / "leak_zoo.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A leak and its safe twin.

    Attributes:
        surface: What one person can do with either application; one class, or several.
        leaky: Makes the world with the planted leak; given the database where the row needs a server.
        safe: Makes the world without it, in the same way.
        leaky_schema: SQL for the database of the leaky world.
        safe_schema: SQL for the database of the safe one.
        options: What the surface's author would pass to ``isolation.check``.
    """

    surface: type[Surface[Any]] | tuple[type[Surface[Any]], ...]
    leaky: Callable[..., Any]
    safe: Callable[..., Any]
    leaky_schema: str = ""
    safe_schema: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of ``fixtures/leak_zoo.toml``.

    Attributes:
        name: Of the leak, unique in the table.
        family: One of the 14, 1 to 14.
        module: The module of this folder that holds it.
        oracle: The one that is meant to find it.
        needs: ``""``, ``"postgres"``, ``"clickhouse"`` or ``"redis"``.
        fewest_calls: Calls in its smallest history.
        is_deep: Whether it is known to take many programs.
        fail_on: The least severity that must fail the check.
        reference: A public account of such a leak.
        also: Further oracles that see the same leak in another guise.
    """

    name: str
    family: int
    module: str
    oracle: str
    fewest_calls: int
    reference: str
    needs: str = ""
    is_deep: bool = False
    fail_on: str = "leak"
    also: Sequence[str] = ()

    @property
    def oracles(self) -> frozenset[str]:
        """Those whose finding is this leak."""
        return frozenset((self.oracle, *self.also))

    @property
    def exhibit(self) -> Exhibit:
        """The applications and the surface."""
        found: Exhibit = importlib.import_module(f"{__package__}.{self.module}").EXHIBITS[self.name]
        return found


def read_zoo() -> tuple[Row, ...]:
    """Return the rows of the table, in its order."""
    with TABLE.open("rb") as file:
        return tuple(Row(**row) for row in tomllib.load(file)["leak"])
