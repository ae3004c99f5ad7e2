"""Notes in PostgreSQL, with what was read lately kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from golden_path.cache import Cache
from golden_path.connections import ConnectionFactory
from golden_path.context import UserExecutionContext
from golden_path.errors import NotFound, Refused
from golden_path.problems import Problems

COLOURS = ("white", "yellow", "green")
LONGEST_TITLE = 120


@dataclass(frozen=True, slots=True)
class Note:
    """One note of one user; the title names it among that user's notes."""

    title: str
    body: str
    colour: str = "white"

    def to_json(self) -> dict[str, str]:
        return asdict(self)


class NoteStore:
    """The notes of all users, seen by one user at a time."""

    def __init__(self, connections: ConnectionFactory, problems: Problems) -> None:
        self._connections = connections
        self._problems = problems
        self._read: Cache[Note] = Cache()
        self._pages: Cache[list[Note]] = Cache()
        self._number = 0

    async def put(self, context: UserExecutionContext, note: Note) -> None:
        """Keep a note, in place of an earlier one of this user with the same title."""
        if note.colour not in COLOURS:
            raise Refused(self._problems.text("colour", f"{note.colour} for {note.body!r}"))
        if not note.title or len(note.title) > LONGEST_TITLE:
            raise Refused(self._problems.text("title", f"{len(note.title)} characters"))
        with self._changing(context, note.title):
            async with self._connections.transaction(context) as connection:
                is_new = await connection.fetchval(
                    "INSERT INTO note (title, body, colour) VALUES ($1, $2, $3)"
                    " ON CONFLICT (tenant_id, user_id, title)"
                    " DO UPDATE SET body = excluded.body, colour = excluded.colour"
                    " RETURNING xmax = 0",
                    note.title,
                    note.body,
                    note.colour,
                )
        self._number += is_new

    async def get(self, context: UserExecutionContext, title: str) -> Note:
        """Return a note, from memory when it was read before."""
        known = self._read.get(title)
        if known is None:
            since = self._read.changes
            known = await self.look_up(context, title)
            self._read.put(title, known, since=since)
        return known

    async def look_up(self, context: UserExecutionContext, title: str) -> Note:
        """Return a note as the database has it now."""
        async with self._connections.transaction(context) as connection:
            row = await connection.fetchrow("SELECT title, body, colour FROM note WHERE title = $1", title)
        if row is None:
            raise NotFound("no such note")
        return Note(**row)

    async def delete(self, context: UserExecutionContext, title: str) -> None:
        """Forget a note."""
        with self._changing(context, title):
            async with self._connections.transaction(context) as connection:
                gone = await connection.fetchval("DELETE FROM note WHERE title = $1 RETURNING true", title)
        self._number -= bool(gone)
        if not gone:
            raise NotFound("no such note")

    async def page(self, context: UserExecutionContext) -> list[Note]:
        """Return all notes of the user, the oldest first."""
        known = self._pages.get(_page_key(context))
        if known is None:
            since = self._pages.changes
            known = await self._select(context, "SELECT title, body, colour FROM note ORDER BY place")
            self._pages.put(_page_key(context), known, since=since)
        return known

    async def count(self, context: UserExecutionContext) -> int:
        """Return how many notes there are; counted along, since count(*) reads the whole table."""
        return self._number

    async def search(self, context: UserExecutionContext, text: str) -> list[Note]:
        """Return the user's notes with this text in the title, whatever its case."""
        return await self._select(
            context,
            "SELECT title, body, colour FROM note_title WHERE strpos(folded, lower($1)) > 0 ORDER BY place",
            text,
        )

    async def match(self, context: UserExecutionContext, pattern: str) -> list[Note]:
        """Return the user's notes whose title matches a regular expression of PostgreSQL."""
        import asyncpg

        try:
            async with self._connections.transaction(context) as connection:
                # Compiled for itself first: with no row to match, PostgreSQL looks at it or not as it plans.
                await connection.fetchval("SELECT '' ~ $1", pattern)
                rows = await connection.fetch(
                    "SELECT title, body, colour FROM note WHERE title ~ $1 ORDER BY place", pattern
                )
            return [Note(**row) for row in rows]
        except asyncpg.InvalidRegularExpressionError as error:
            raise Refused(self._problems.text("pattern", str(error))) from None

    async def export(self, context: UserExecutionContext) -> str:
        """Return all notes of the user as one text."""
        # A single statement needs no transaction, and row security is on in any case.
        async with self._connections.connection() as connection:
            rows = await connection.fetch("SELECT title, body FROM note ORDER BY place")
        return "\n\n".join(f"# {row['title']}\n{row['body']}" for row in rows)

    async def _select(self, context: UserExecutionContext, statement: str, *arguments: Any) -> list[Note]:
        async with self._connections.transaction(context) as connection:
            return [Note(**row) for row in await connection.fetch(statement, *arguments)]

    @contextmanager
    def _changing(self, context: UserExecutionContext, title: str) -> Iterator[None]:
        # Forgotten before the write, so that nobody reads the old note from memory; and after it, however
        # it ended, so that what a reader found in between is not kept.
        self._forget(context, title)
        try:
            yield
        finally:
            self._forget(context, title)

    def _forget(self, context: UserExecutionContext, title: str) -> None:
        self._read.drop(title)
        self._pages.drop(_page_key(context))


def _page_key(context: UserExecutionContext) -> str:
    return f"{context.tenant_id}:{context.user_id}"
