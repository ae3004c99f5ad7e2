"""Family 12: a write that lands in another's space."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import Engine, ForeignKey, UniqueConstraint, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pytest_ssot_isolation.generation.strategies import keys, observed, secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit
from .sqlite import engine_in_memory

# -- an upsert whose key is unique in the whole table --------------------------------------------------------


class PerOwner(DeclarativeBase):
    pass


class OverAll(DeclarativeBase):
    pass


class PresetOfOwner(PerOwner):
    __tablename__ = "preset"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name: Mapped[str]
    value: Mapped[str]


class Preset(OverAll):
    __tablename__ = "preset"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name: Mapped[str] = mapped_column(unique=True)
    value: Mapped[str]


class Presets:
    def __init__(self, table: type[PresetOfOwner] | type[Preset], engine: Engine) -> None:
        self._table = table
        self._unique = ["name"] if table is Preset else ["owner", "name"]
        self._engine = engine

    @classmethod
    @contextmanager
    def kept_in(cls, table: type[PresetOfOwner] | type[Preset]) -> Iterator[Presets]:
        with engine_in_memory(table.metadata) as engine:
            yield cls(table, engine)

    async def save(self, owner: str, name: str, value: str) -> None:
        query = insert(self._table).values(owner=owner, name=name, value=value)
        query = query.on_conflict_do_update(index_elements=self._unique, set_={"value": value})
        with self._engine.begin() as connection:
            connection.execute(query)

    async def load(self, owner: str, name: str) -> str | None:
        table = self._table
        with Session(self._engine) as session:
            return session.scalar(select(table.value).where(table.owner == owner, table.name == name))


class PresetUser(Surface[Presets]):
    @operation(name=keys(), value=secrets())
    async def save(self, name: str, value: str) -> None:
        await self.world.save(self.user.user_id, name, value)

    @operation(name=keys())
    async def load(self, name: str) -> str | None:
        return await self.world.load(self.user.user_id, name)


# -- another's id accepted as a parent -----------------------------------------------------------------------


class Base(DeclarativeBase):
    pass


class Folder(Base):
    __tablename__ = "folder"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]


class Document(Base):
    __tablename__ = "document"

    id: Mapped[int] = mapped_column(primary_key=True)
    folder_id: Mapped[int] = mapped_column(ForeignKey("folder.id"))
    text: Mapped[str]


class NoSuchFolder(LookupError):
    pass


class Documents:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    @contextmanager
    def kept(cls) -> Iterator[Documents]:
        with engine_in_memory(Base.metadata) as engine:
            yield cls(engine)

    def check_parent(self, session: Session, owner: str, folder: int) -> None:
        if session.scalar(select(Folder.id).where(Folder.id == folder, Folder.owner == owner)) is None:
            raise NoSuchFolder("there is no such folder")

    async def new_folder(self, owner: str) -> int:
        with Session(self._engine) as session, session.begin():
            folder = Folder(owner=owner)
            session.add(folder)
            session.flush()
            return folder.id

    async def file(self, owner: str, folder: int, text: str) -> None:
        with Session(self._engine) as session, session.begin():
            self.check_parent(session, owner, folder)
            session.add(Document(folder_id=folder, text=text))

    async def mine(self, owner: str) -> list[str]:
        query = select(Document.text).join(Folder).where(Folder.owner == owner).order_by(Document.id)
        with Session(self._engine) as session:
            return list(session.scalars(query))


class DocumentsWithAnyParent(Documents):
    def check_parent(self, session: Session, owner: str, folder: int) -> None:
        if session.get(Folder, folder) is None:
            raise NoSuchFolder("there is no such folder")


class DocumentUser(Surface[Documents]):
    opaque = ("new_folder:*",)

    @operation
    async def new_folder(self) -> int:
        return await self.world.new_folder(self.user.user_id)

    @operation(folder=observed("new_folder"), text=secrets())
    async def file(self, folder: int, text: str) -> None:
        await self.world.file(self.user.user_id, folder, text)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)


# -- a path in a shared object store -------------------------------------------------------------------------


class Bucket:
    """An object store of one name space."""

    def __init__(self) -> None:
        self._objects: dict[str, str] = {}

    async def put(self, path: str, data: str) -> None:
        await asyncio.sleep(0)
        self._objects[path] = data

    async def get(self, path: str) -> str | None:
        await asyncio.sleep(0)
        return self._objects.get(path)


class Uploads:
    def __init__(self) -> None:
        self._bucket = Bucket()

    def path(self, user: str, name: str) -> str:
        # Each part is escaped, so that none can hold the separator or be a dot segment.
        return str(PurePosixPath("uploads") / user.encode().hex() / ("n" + name.encode().hex()))

    async def upload(self, user: str, name: str, data: str) -> str:
        await self._bucket.put(self.path(user, name), data)
        return "uploaded"

    async def download(self, user: str, name: str) -> str | None:
        return await self._bucket.get(self.path(user, name))


class UploadsByFileName(Uploads):
    def path(self, user: str, name: str) -> str:
        return str(PurePosixPath("uploads") / ("n" + name.encode().hex()))


class Uploader(Surface[Any]):
    @operation(name=keys(), data=secrets())
    async def upload(self, name: str, data: str) -> str:
        uploaded: str = await self.world.upload(self.user.user_id, name, data)
        return uploaded

    @operation(name=keys())
    async def download(self, name: str) -> str | None:
        data: str | None = await self.world.download(self.user.user_id, name)
        return data


# -- an import that keeps the ids of the file ----------------------------------------------------------------


class Contacts:
    """Address books; an export can be imported again and takes the place of what it came from."""

    def __init__(self) -> None:
        self._rows: dict[Any, tuple[str, str]] = {}
        self._next = 0

    def key(self, user: str, contact_id: int) -> Any:
        return (user, contact_id)

    async def add(self, user: str, name: str) -> int:
        self._next += 1
        self._rows[self.key(user, self._next)] = (user, name)
        return self._next

    async def restore(self, user: str, contact_id: int, name: str) -> None:
        await asyncio.sleep(0)
        self._rows[self.key(user, contact_id)] = (user, name)

    async def mine(self, user: str) -> list[str]:
        return [name for owner, name in self._rows.values() if owner == user]


class ContactsByIdAlone(Contacts):
    def key(self, user: str, contact_id: int) -> Any:
        return contact_id


class ContactUser(Surface[Contacts]):
    opaque = ("add:*",)

    @operation(name=secrets())
    async def add(self, name: str) -> int:
        return await self.world.add(self.user.user_id, name)

    @operation(contact_id=observed("add"), name=secrets())
    async def restore(self, contact_id: int, name: str) -> None:
        await self.world.restore(self.user.user_id, contact_id, name)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)


EXHIBITS = {
    "upsert_by_global_key": Exhibit(
        surface=PresetUser, leaky=lambda: Presets.kept_in(Preset), safe=lambda: Presets.kept_in(PresetOfOwner)
    ),
    "foreign_parent_accepted": Exhibit(
        surface=DocumentUser, leaky=DocumentsWithAnyParent.kept, safe=Documents.kept
    ),
    "path_without_user": Exhibit(surface=Uploader, leaky=UploadsByFileName, safe=Uploads),
    "import_overwrites_by_id": Exhibit(surface=ContactUser, leaky=ContactsByIdAlone, safe=Contacts),
}
