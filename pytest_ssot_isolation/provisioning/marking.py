"""Which databases tests may write to: those that somebody marked for it."""

from __future__ import annotations

import re
from typing import Final

from pytest_ssot_isolation.errors import NotATestDatabase

MARK: Final = "ssot_isolation_may_write"
"""The table that marks a database whose name does not."""

_AS_A_WORD: Final = re.compile(r"(?:^|[_-])test(?:$|[_-])", re.IGNORECASE)


def is_named_for_tests(database: str) -> bool:
    """Tell whether ``test`` is a word of the name, bounded by ``_``, ``-`` or an end."""
    return _AS_A_WORD.search(database) is not None


def refusal(engine: str, address: str, database: str) -> NotATestDatabase:
    """Return the error for a database that nobody marked.

    Args:
        engine: ``postgres`` or ``clickhouse``.
        address: Where it is, without a password.
        database: Its name.
    """
    return NotATestDatabase(
        f"The database {database!r} at {address} is not marked for tests, which write to it and empty it.\n"
        "To fix this, do one of:\n"
        f"  - use a database with the word 'test' in its name, such as app_test: --ssot-{engine}=DSN\n"
        f"  - mark it, if its data may be lost: create a table {MARK} in it"
    )
