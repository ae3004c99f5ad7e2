"""``drop_where`` and ``set_local``: guards that stand in the SQL that the application sends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pytest_ssot_isolation.mutation import statements
from pytest_ssot_isolation.mutation.drivers import tapped
from pytest_ssot_isolation.mutation.guards import Reach, Stage

SURE = 0.9
"""Share of its executions in which a condition has to compare with the acting user's own id."""

SHOWN = 160
"""Characters of a statement that are shown."""


@dataclass(frozen=True, slots=True)
class SqlGuard:
    """One place in one statement.

    Attributes:
        place: The condition or setting, and its statement.
        skeleton: The statement without literals.
        number: Which of its conditions or settings.
        rewrite: Weakens it: given the text and the number.
        stage: What is known of the runs.
        is_idle: Never: it was seen at work.
    """

    place: str
    skeleton: str
    number: int
    rewrite: Callable[[str, statements.Statement, int], str]
    stage: Stage
    is_idle: bool = False

    @contextmanager
    def weakened(self) -> Iterator[Reach]:
        """Send the statement without this guard."""
        reach = Reach()

        @lru_cache(maxsize=4096)
        def weaker(sql: str, dialect: str) -> str:
            read = statements.read(sql, dialect)
            if read is None or read.skeleton != self.skeleton:
                return sql
            return self.rewrite(sql, read, self.number)

        def on_statement(sql: str, arguments: Any, dialect: str) -> str:
            sent = weaker(sql, dialect)
            reach.count += sent != sql
            return sent

        with tapped(self.stage, on_statement):
            yield reach


@dataclass(slots=True)
class _Sql:
    """Records statements; which parts of them are guards is a subclass's business."""

    stage: Stage
    seen: Counter[str] = field(default_factory=Counter)
    unread: int = 0
    _guards: dict[tuple[str, int], str] = field(default_factory=dict)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Look for guards in what is sent."""
        with tapped(self.stage, self._see):
            yield

    def _see(self, sql: str, arguments: Any, dialect: str) -> str:
        # No tenant has rows in a catalogue; what asks there is a driver, or our own look at a connection.
        if not self.stage.roster.everybody() or "pg_catalog." in sql:
            return sql
        read = statements.read(sql, dialect)
        if read is None:
            self.unread += 1
            return sql
        self.seen[read.skeleton] += 1
        self._look(sql, arguments, dialect, read)
        return sql

    def _look(self, sql: str, arguments: Any, dialect: str, read: statements.Statement) -> None:
        raise NotImplementedError

    def absent(self) -> str:
        """How many statements were seen in vain."""
        several = f"{len(self.seen)} different statement" + ("" if len(self.seen) == 1 else "s")
        unread = f", and {self.unread} could not be read" if self.unread else ""
        return f"{self._sought} was seen in {several}{unread}"

    _sought = ""


@dataclass(slots=True)
class DropWhere(_Sql):
    """A condition that compares with who acts is dropped."""

    _own: Counter[tuple[str, int]] = field(default_factory=Counter)
    _all: Counter[tuple[str, int]] = field(default_factory=Counter)
    _sought = "no condition on the acting user or tenant"

    def _look(self, sql: str, arguments: Any, dialect: str, read: statements.Statement) -> None:
        for number, condition in enumerate(read.conjuncts):
            values = [statements.value_of(each, arguments) for each in condition.references]
            if not condition.asks_session and all(value is None for value in values):
                continue
            key = (read.skeleton, number)
            self._all[key] += 1
            if condition.asks_session or any(self.stage.roster.whose(value) for value in values):
                self._own[key] += 1
                if key not in self._guards and statements.is_sound(
                    sql, dialect, condition.start, condition.end
                ):
                    said = " ".join(sql[condition.start : condition.end].split())
                    self._guards[key] = f"{_hidden(said, condition, values)} in: {read.skeleton[:SHOWN]}"

    def found(self) -> Sequence[SqlGuard]:
        """The conditions that nearly always compared with who acted."""
        return [
            SqlGuard(place, key[0], key[1], _drop, self.stage)
            for key, place in self._guards.items()
            if self._own[key] >= SURE * self._all[key]
        ]


@dataclass(slots=True)
class SetLocal(_Sql):
    """A setting for one transaction is made the session's."""

    _sought = "neither SET LOCAL nor a local set_config of a setting of the application's own"

    def _look(self, sql: str, arguments: Any, dialect: str, read: statements.Statement) -> None:
        for number, setting in enumerate(read.settings):
            name = statements.value_of(setting.name, arguments)
            if name is None or not statements.guards_a_user(name):
                continue
            if statements.makes_local(statements.value_of(setting.is_local, arguments)):
                self._guards.setdefault((read.skeleton, number), f"{name} in: {read.skeleton[:SHOWN]}")

    def found(self) -> Sequence[SqlGuard]:
        """The settings that were made for one transaction."""
        return [
            SqlGuard(place, key[0], key[1], _for_the_session, self.stage)
            for key, place in self._guards.items()
        ]


def _drop(sql: str, read: statements.Statement, number: int) -> str:
    if number >= len(read.conjuncts):
        return sql
    condition = read.conjuncts[number]
    return statements.weaken(sql, condition.start, condition.end)


def _for_the_session(sql: str, read: statements.Statement, number: int) -> str:
    return statements.make_session_wide(sql, read.settings[number]) if number < len(read.settings) else sql


def _hidden(said: str, condition: statements.Conjunct, values: Sequence[Any]) -> str:
    """The text of a condition without the literals in it, which differ from run to run."""
    for (how, _), value in zip(condition.references, values, strict=True):
        if how == "is" and not condition.asks_session:
            said = said.replace(str(value), "?")
    return said
