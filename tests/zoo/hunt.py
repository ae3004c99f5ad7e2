"""Runs one application of the zoo through the harness, without pytest."""

from __future__ import annotations

from typing import Any

from pytest_ssot_isolation.errors import InconclusiveCheck, LeakFound
from pytest_ssot_isolation.harness import Isolation
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.options import Settings

from .exhibits import Exhibit, Row


def check(
    row: Row,
    *,
    leaky: bool,
    seed: int,
    database: Any = None,
    profile: str = "default",
    exhibit: Exhibit | None = None,
    **options: Any,
) -> Report:
    """Check the leaky application of a row, or its safe twin.

    Args:
        row: Of the table.
        leaky: Which of the two.
        seed: Fixes everything that is drawn.
        database: An empty database, where the row needs one.
        profile: How much the check may cost.
        exhibit: The row's own by default.
        options: For ``isolation.check``, beside those of the exhibit.

    Returns:
        The report, whatever the verdict.
    """
    exhibit = exhibit or row.exhibit
    make = exhibit.leaky if leaky else exhibit.safe
    resets: list[Any] = []
    blocked = None
    if database is not None:
        if schema := exhibit.leaky_schema if leaky else exhibit.safe_schema:
            database.apply(schema)
        resets.append(database.reset_async)
        if hasattr(database, "blocked_pids"):
            blocked = lambda: len(database.blocked_pids())  # noqa: E731
    isolation = Isolation(
        settings=Settings(profile=profile, seed=seed, fail_on=row.fail_on),
        test_id=f"zoo::{row.name}",
        resets=lambda: resets,
        blocked=lambda: blocked,
    )
    surface = exhibit.surface if isinstance(exhibit.surface, type) else list(exhibit.surface)
    world = (lambda: make(database)) if row.needs else make
    try:
        return isolation.check(surface, world=world, **{**exhibit.options, "seed": seed, **options})
    except (LeakFound, InconclusiveCheck) as failure:
        return failure.report
