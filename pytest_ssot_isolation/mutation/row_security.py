"""``force_rls``: row policies let everybody through, and the owner of a table passes them by.

What guards depends on who connects. For a role that does not own the table it is each policy (one mutant for each:
its USING and WITH CHECK become true). FORCE ROW LEVEL SECURITY holds the owner alone, so it is dropped only where a
session of the owner's role was seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pytest_ssot_isolation.mutation.drivers import tapped
from pytest_ssot_isolation.mutation.guards import Reach, Stage

_WORDS: Final = re.compile(r"\w+")
LONGEST: Final = 4000
"""Characters of a statement that is looked at; a longer one is data rather than a question."""

LOOKS: Final = 3
"""Worlds whose sessions are asked for."""

_POLICIES: Final = """
    SELECT format('%I.%I', n.nspname, c.relname), quote_ident(p.polname), p.polname::text,
           pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relrowsecurity ORDER BY 1, 2"""
_FORCED: Final = """
    SELECT format('%I.%I', n.nspname, c.relname), pg_get_userbyid(c.relowner)::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relrowsecurity AND c.relforcerowsecurity ORDER BY 1"""
_ROLES: Final = """
    SELECT DISTINCT usename::text FROM pg_stat_activity
    WHERE datname = current_database() AND usename IS NOT NULL AND application_name <> 'ssot-isolation'"""


class Database(Protocol):
    """A PostgreSQL database of the test's own."""

    def apply(self, sql_or_path: str) -> None:
        """Run a script as the owner."""
        ...

    def ask(self, query: str) -> Sequence[tuple[Any, ...]]:
        """Run a question as the owner."""
        ...


@dataclass(frozen=True, slots=True)
class RowGuard:
    """One policy, or the FORCE of one table.

    Attributes:
        place: Which.
        database: Where.
        weaken: The script that weakens it.
        restore: The script that brings it back.
        is_idle: Whether no statement of the check named the table.
    """

    place: str
    database: Database
    weaken: str
    restore: str
    is_idle: bool = False

    @contextmanager
    def weakened(self) -> Iterator[Reach]:
        """Change the database, and change it back."""
        try:
            self.database.apply(self.weaken)
            yield Reach(count=1)
        finally:
            self.database.apply(self.restore)


@dataclass(slots=True)
class ForceRls:
    """Looks for row security in the databases of the test."""

    stage: Stage
    databases: Sequence[Database]
    _roles: set[str] = field(default_factory=set)
    _looks: int = 0
    _words: set[str] = field(default_factory=set)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Ask who is connected, before the first worlds end."""
        self.stage.leaving.append(self._look)
        try:
            with tapped(self.stage, self._see):
                yield
        finally:
            self.stage.leaving.remove(self._look)

    def _see(self, sql: str, arguments: Any, dialect: str) -> str:
        if len(sql) <= LONGEST and "pg_catalog." not in sql:
            self._words.update(_WORDS.findall(sql.lower()))
        return sql

    def _is_idle(self, table: str) -> bool:
        return not set(_WORDS.findall(table.rpartition(".")[2].lower())) <= self._words

    def _look(self) -> None:
        if self._looks < LOOKS:
            self._looks += 1
            for database in self.databases:
                self._roles |= {role for (role,) in database.ask(_ROLES)}

    def found(self) -> Sequence[RowGuard]:
        """The policies of tables with row security, and FORCE where the owner is connected."""
        guards = []
        for database in self.databases:
            for table, quoted, name, using, check in database.ask(_POLICIES):
                parts = [("USING", using), ("WITH CHECK", check)]
                alter = f"ALTER POLICY {quoted} ON {table}"
                open_ = " ".join(f"{word} (true)" for word, said in parts if said is not None)
                closed = " ".join(f"{word} ({said})" for word, said in parts if said is not None)
                place = f"the row policy {name} on {table}"
                guards.append(
                    RowGuard(place, database, f"{alter} {open_}", f"{alter} {closed}", self._is_idle(table))
                )
            for table, owner in database.ask(_FORCED):
                if owner in self._roles:
                    alter = f"ALTER TABLE {table}"
                    guards.append(
                        RowGuard(
                            f"FORCE ROW LEVEL SECURITY on {table}",
                            database,
                            f"{alter} NO FORCE ROW LEVEL SECURITY",
                            f"{alter} FORCE ROW LEVEL SECURITY",
                            self._is_idle(table),
                        )
                    )
        return guards

    def absent(self) -> str:
        """What there was to look at."""
        if not self.databases:
            return "the test asks for no PostgreSQL database"
        return "no table of the test's databases has row security with a policy"
