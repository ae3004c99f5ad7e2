"""Family 5: a thread's own storage, where one thread serves many users."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from pytest_ssot_isolation.generation.strategies import secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit
from .sqlite import engine_in_memory

# -- a session object per thread, under an executor ---------------------------------------------------------


class Connection:
    """What a synchronous driver keeps for a session: its parameters, and where they apply."""

    def __init__(self, user: str) -> None:
        self.user = user


class Reports:
    """Builds reports with a synchronous driver, off the loop."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="reports")
        self._rows: dict[str, list[str]] = {}

    def connection(self, user: str) -> Connection:
        return Connection(user)

    def _file(self, user: str, text: str) -> int:
        rows = self._rows.setdefault(self.connection(user).user, [])
        rows.append(text)
        return len(rows)

    def _mine(self, user: str) -> list[str]:
        return list(self._rows.get(self.connection(user).user, ()))

    async def file(self, user: str, text: str) -> int:
        return await asyncio.get_running_loop().run_in_executor(self.executor, self._file, user, text)

    async def mine(self, user: str) -> list[str]:
        return await asyncio.get_running_loop().run_in_executor(self.executor, self._mine, user)


class ReportsWithThreadLocal(Reports):
    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def connection(self, user: str) -> Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = Connection(user)
        kept: Connection = self._local.connection
        return kept


def running(reports: Callable[[], Any]) -> Callable[[], Any]:
    @asynccontextmanager
    async def world() -> AsyncIterator[Any]:
        made = reports()
        try:
            yield made
        finally:
            made.executor.shutdown()

    return world


class Reporter(Surface[Reports]):
    @operation(text=secrets())
    async def file(self, text: str) -> int:
        return await self.world.file(self.user.user_id, text)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)


# -- a thread-local "current user" across coroutines ---------------------------------------------------------


class Journal:
    def __init__(self) -> None:
        self._entries: dict[str, list[str]] = {}

    async def _connect(self) -> None:
        await asyncio.sleep(0.001)

    async def write(self, user: str, entry: str) -> None:
        await self._connect()
        self._entries.setdefault(user, []).append(entry)

    async def read(self, user: str) -> list[str]:
        await self._connect()
        return list(self._entries.get(user, ()))


class JournalWithThreadLocal(Journal):
    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    async def write(self, user: str, entry: str) -> None:
        self._local.user = user
        await self._connect()
        self._entries.setdefault(self._local.user, []).append(entry)

    async def read(self, user: str) -> list[str]:
        self._local.user = user
        await self._connect()
        return list(self._entries.get(self._local.user, ()))


class Diarist(Surface[Journal]):
    @operation(entry=secrets())
    async def write(self, entry: str) -> None:
        await self.world.write(self.user.user_id, entry)

    @operation
    async def read(self) -> list[str]:
        return await self.world.read(self.user.user_id)


# -- SQLAlchemy's thread-scoped session under coroutines -----------------------------------------------------


class Base(DeclarativeBase):
    pass


class Task(Base):
    __tablename__ = "task"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String)
    text: Mapped[str] = mapped_column(String)


async def audit() -> None:
    await asyncio.sleep(0.001)  # where the real one posts to another service


class Tasks:
    """A unit of work for each request: add, have it audited, commit; or roll back when it is refused."""

    def __init__(self, sessions: Any) -> None:
        self._session = sessions

    @classmethod
    @contextmanager
    def kept(cls, registry: Callable[[sessionmaker[Session]], Any]) -> Iterator[Tasks]:
        with engine_in_memory(Base.metadata) as engine:
            yield cls(registry(sessionmaker(engine, expire_on_commit=False)))

    async def add(self, owner: str, text: str) -> None:
        session = self._session()
        session.add(Task(owner=owner, text=text))
        await audit()
        session.commit()
        self._close(session)

    async def preview(self, owner: str, text: str) -> list[str]:
        session = self._session()
        session.add(Task(owner=owner, text=text))
        await audit()
        # What would the list look like? Nothing of this is kept.
        rows = [task.text for task in session.new if isinstance(task, Task)]
        session.rollback()
        self._close(session)
        return rows

    async def mine(self, owner: str) -> list[str]:
        session = self._session()
        rows = list(session.scalars(select(Task.text).where(Task.owner == owner).order_by(Task.id)))
        self._close(session)
        return rows

    def _close(self, session: Session) -> None:
        if isinstance(self._session, scoped_session):
            self._session.remove()
        else:
            session.close()


class TaskUser(Surface[Tasks]):
    @operation(text=secrets())
    async def add(self, text: str) -> None:
        await self.world.add(self.user.user_id, text)

    @operation(text=secrets())
    async def preview(self, text: str) -> list[str]:
        return await self.world.preview(self.user.user_id, text)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)


# -- a context variable in a worker thread -------------------------------------------------------------------

_acting: ContextVar[str] = ContextVar("acting", default="nobody")


class Letters:
    """Writes letters off the loop; what is for everybody is written by nobody."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="letters")
        self._sent: dict[str, list[str]] = {}

    def _as(self, user: str | None, work: Callable[[], Any]) -> Any:
        if user is None:
            return work()
        token = _acting.set(user)
        try:
            return work()
        finally:
            _acting.reset(token)

    def _write(self, text: str) -> None:
        self._sent.setdefault(_acting.get(), []).append(text)

    def _sample(self) -> str:
        return "Dear reader, this is how a letter looks."

    async def _off_the_loop(self, user: str | None, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.executor, self._as, user, work)

    async def send(self, user: str, text: str) -> None:
        await self._off_the_loop(user, lambda: self._write(text))

    async def mine(self, user: str) -> list[str]:
        mine: list[str] = await self._off_the_loop(user, lambda: list(self._sent.get(_acting.get(), ())))
        return mine

    async def sample(self) -> str:
        sample: str = await self._off_the_loop(None, self._sample)
        return sample


class LettersThatStaySigned(Letters):
    def _as(self, user: str | None, work: Callable[[], Any]) -> Any:
        if user is not None:
            _acting.set(user)
        return work()


class LetterWriter(Surface[Letters]):
    @operation(text=secrets())
    async def send(self, text: str) -> None:
        await self.world.send(self.user.user_id, text)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)

    @operation
    async def sample(self) -> str:
        return await self.world.sample()


EXHIBITS = {
    "thread_local_under_executor": Exhibit(
        surface=Reporter, leaky=running(ReportsWithThreadLocal), safe=running(Reports)
    ),
    "thread_local_across_coroutines": Exhibit(surface=Diarist, leaky=JournalWithThreadLocal, safe=Journal),
    "thread_scoped_session": Exhibit(
        surface=TaskUser,
        leaky=lambda: Tasks.kept(scoped_session),
        safe=lambda: Tasks.kept(lambda maker: maker),
    ),
    "left_in_worker_thread": Exhibit(
        surface=LetterWriter, leaky=running(LettersThatStaySigned), safe=running(Letters)
    ),
}
