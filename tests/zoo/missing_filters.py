"""Family 9: a query without its WHERE, or an id that was trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pytest_ssot_isolation.generation.strategies import keys, observed, other_user, secrets
from pytest_ssot_isolation.surfaces.base import operation

from .exhibits import Exhibit
from .sqlite import engine_in_memory
from .web import CurrentUser, WebUser


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(index=True)
    title: Mapped[str]
    body: Mapped[str]


class NewNote(BaseModel):
    title: str
    body: str


class Notes:
    """The queries, each with its WHERE."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def create(self, owner: str, note: NewNote) -> Note:
        row = Note(owner=owner, title=note.title, body=note.body)
        self.session.add(row)
        self.session.flush()
        return row

    def read(self, owner: str, note_id: int) -> Note | None:
        return self.session.scalar(select(Note).where(Note.id == note_id, Note.owner == owner))

    def list(self, owner: str, claimed_owner: str | None = None) -> Sequence[Note]:
        return self.session.scalars(select(Note).where(Note.owner == owner).order_by(Note.id)).all()

    def rewrite(self, owner: str, note_id: int, body: str) -> int:
        query = update(Note).where(Note.id == note_id, Note.owner == owner).values(body=body)
        return int(self.session.execute(query).rowcount)  # type: ignore[attr-defined]

    def delete(self, owner: str, note_id: int) -> int:
        query = delete(Note).where(Note.id == note_id, Note.owner == owner)
        return int(self.session.execute(query).rowcount)  # type: ignore[attr-defined]

    def search(self, owner: str, text: str) -> Sequence[Note]:
        exact = self.session.scalars(select(Note).where(Note.owner == owner, Note.title == text)).all()
        if exact:
            return exact
        like = select(Note).where(Note.owner == owner, Note.title.contains(text, autoescape=True))
        return self.session.scalars(like.order_by(Note.id)).all()


class ReadsAnyId(Notes):
    def read(self, owner: str, note_id: int) -> Note | None:
        return self.session.get(Note, note_id)


class ListsAll(Notes):
    def list(self, owner: str, claimed_owner: str | None = None) -> Sequence[Note]:
        return self.session.scalars(select(Note).order_by(Note.id)).all()


class RewritesAnyId(Notes):
    def rewrite(self, owner: str, note_id: int, body: str) -> int:
        query = update(Note).where(Note.id == note_id).values(body=body)
        return int(self.session.execute(query).rowcount)  # type: ignore[attr-defined]


class DeletesAnyId(Notes):
    def delete(self, owner: str, note_id: int) -> int:
        return int(self.session.execute(delete(Note).where(Note.id == note_id)).rowcount)  # type: ignore[attr-defined]


class TrustsTheOwnerSent(Notes):
    def list(self, owner: str, claimed_owner: str | None = None) -> Sequence[Note]:
        return super().list(claimed_owner or owner)


class SearchForgetsInOneBranch(Notes):
    def search(self, owner: str, text: str) -> Sequence[Note]:
        exact = self.session.scalars(select(Note).where(Note.title == text)).all()
        return exact or super().search(owner, text)


def seen(note: Note) -> dict[str, Any]:
    return {"id": note.id, "title": note.title, "body": note.body}


def notes_app(notes_of: type[Notes], engine: Engine) -> FastAPI:
    app = FastAPI()

    @app.post("/notes", status_code=201)
    async def create(user: CurrentUser, note: NewNote) -> dict[str, Any]:
        with Session(engine) as session, session.begin():
            return seen(notes_of(session).create(user, note))

    @app.get("/notes/search")
    async def search(user: CurrentUser, text: str) -> list[dict[str, Any]]:
        with Session(engine) as session:
            return [seen(note) for note in notes_of(session).search(user, text)]

    @app.get("/notes/{note_id}")
    async def read(user: CurrentUser, note_id: int) -> dict[str, Any]:
        with Session(engine) as session:
            note = notes_of(session).read(user, note_id)
            if note is None:
                raise HTTPException(404)
            return seen(note)

    @app.get("/notes")
    async def listing(user: CurrentUser, owner: str | None = None) -> list[dict[str, Any]]:
        with Session(engine) as session:
            return [seen(note) for note in notes_of(session).list(user, owner)]

    @app.patch("/notes/{note_id}", status_code=204)
    async def rewrite(user: CurrentUser, note_id: int, note: NewNote) -> None:
        with Session(engine) as session, session.begin():
            if not notes_of(session).rewrite(user, note_id, note.body):
                raise HTTPException(404)

    @app.delete("/notes/{note_id}", status_code=204)
    async def remove(user: CurrentUser, note_id: int) -> None:
        with Session(engine) as session, session.begin():
            if not notes_of(session).delete(user, note_id):
                raise HTTPException(404)

    return app


class NoteUser(WebUser):
    opaque = ("body.id", "body.*.id")
    ignore = ("headers.content-length",)

    @operation(title=keys(), body=secrets())
    async def create(self, title: str, body: str) -> httpx.Response:
        return await self.http.post("/notes", json={"title": title, "body": body})

    @operation(note=observed("create", "body.id"))
    async def read(self, note: int) -> httpx.Response:
        return await self.http.get(f"/notes/{note}")

    @operation
    async def list_notes(self) -> httpx.Response:
        return await self.http.get("/notes")

    @operation(owner=other_user())
    async def list_for(self, owner: str) -> httpx.Response:
        return await self.http.get("/notes", params={"owner": owner})

    @operation(text=keys())
    async def search(self, text: str) -> httpx.Response:
        return await self.http.get("/notes/search", params={"text": text})

    @operation(note=observed("create", "body.id"), body=secrets())
    async def rewrite(self, note: int, body: str) -> httpx.Response:
        return await self.http.patch(f"/notes/{note}", json={"title": "unused", "body": body})

    @operation(note=observed("create", "body.id"))
    async def delete(self, note: int) -> httpx.Response:
        return await self.http.delete(f"/notes/{note}")


@contextmanager
def serving(notes_of: type[Notes]) -> Iterator[FastAPI]:
    with engine_in_memory(Base.metadata) as engine:
        yield notes_app(notes_of, engine)


def exhibit(leaky: type[Notes]) -> Exhibit:
    return Exhibit(surface=NoteUser, leaky=lambda: serving(leaky), safe=lambda: serving(Notes))


EXHIBITS = {
    "read_by_id": exhibit(ReadsAnyId),
    "list_without_owner": exhibit(ListsAll),
    "update_by_id": exhibit(RewritesAnyId),
    "delete_by_id": exhibit(DeletesAnyId),
    "owner_from_query": exhibit(TrustsTheOwnerSent),
    "search_branch_without_owner": exhibit(SearchForgetsInOneBranch),
}
