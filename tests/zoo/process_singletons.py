"""Family 4: one object for the whole process, where each user should have had one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

from pytest_ssot_isolation.generation.strategies import keys, secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit

# -- a module-level dict without the user in its key ------------------------------------------------------

_drafts: dict[Any, str] = {}


class DraftsByTitle:
    async def save(self, user: str, title: str, text: str) -> None:
        _drafts[title] = text

    async def load(self, user: str, title: str) -> str | None:
        return _drafts.get(title)


class DraftsByUserAndTitle:
    async def save(self, user: str, title: str, text: str) -> None:
        _drafts[user, title] = text

    async def load(self, user: str, title: str) -> str | None:
        return _drafts.get((user, title))


class Drafts(Surface[Any]):
    @operation(title=keys(), text=secrets())
    async def save(self, title: str, text: str) -> None:
        await self.world.save(self.user.user_id, title, text)

    @operation(title=keys())
    async def load(self, title: str) -> str | None:
        loaded: str | None = await self.world.load(self.user.user_id, title)
        return loaded


# -- a factory that remembers its first context -----------------------------------------------------------


@dataclass
class Agent:
    user: str
    memory: list[str] = field(default_factory=list)

    async def tell(self, text: str) -> int:
        self.memory.append(text)
        return len(self.memory)

    async def recall(self) -> list[str]:
        return list(self.memory)


class FactoryOfOne:
    def __init__(self) -> None:
        self._agent: Agent | None = None

    def agent_for(self, user: str) -> Agent:
        if self._agent is None:
            self._agent = Agent(user)
        return self._agent


class FactoryOfEach:
    def __init__(self) -> None:
        self._agents: dict[str, Agent] = {}

    def agent_for(self, user: str) -> Agent:
        if user not in self._agents:
            self._agents[user] = Agent(user)
        return self._agents[user]


class AgentUser(Surface[Any]):
    @operation(text=secrets())
    async def tell(self, text: str) -> int:
        told: int = await self.world.agent_for(self.user.user_id).tell(text)
        return told

    @operation
    async def recall(self) -> list[str]:
        recalled: list[str] = await self.world.agent_for(self.user.user_id).recall()
        return recalled


# -- a class attribute as default -------------------------------------------------------------------------


class BasketOnClass:
    items: ClassVar[list[str]] = []

    def add(self, item: str) -> None:
        self.items.append(item)


class BasketOnInstance:
    def __init__(self) -> None:
        self.items: list[str] = []

    def add(self, item: str) -> None:
        self.items.append(item)


class Shop:
    def __init__(self, basket: type[BasketOnClass] | type[BasketOnInstance]) -> None:
        self._make = basket
        self._baskets: dict[str, BasketOnClass | BasketOnInstance] = {}

    def basket(self, user: str) -> BasketOnClass | BasketOnInstance:
        return self._baskets.setdefault(user, self._make())


class Buyer(Surface[Shop]):
    @operation(item=secrets())
    def add(self, item: str) -> None:
        self.world.basket(self.user.user_id).add(item)

    @operation
    def look(self) -> list[str]:
        return list(self.world.basket(self.user.user_id).items)


def empty_the_shop(shop: Shop | None) -> None:
    BasketOnClass.items.clear()


# -- a mutable default argument ---------------------------------------------------------------------------


def tagged_by_default(tag: str, tags: list[str] = []) -> list[str]:  # noqa: B006  the planted leak
    tags.append(tag)
    return tags


def tagged(tag: str, tags: list[str] | None = None) -> list[str]:
    tags = [] if tags is None else tags
    tags.append(tag)
    return tags


class Tags:
    def __init__(self, start: Any) -> None:
        self._start = start
        self._tags: dict[str, list[str]] = {}

    async def tag(self, user: str, tag: str) -> None:
        if user in self._tags:
            self._start(tag, self._tags[user])
        else:
            self._tags[user] = self._start(tag)

    async def mine(self, user: str) -> list[str]:
        return list(self._tags.get(user, ()))


class Tagger(Surface[Tags]):
    @operation(tag=secrets(max_length=40))
    async def tag(self, tag: str) -> None:
        await self.world.tag(self.user.user_id, tag)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)


def forget_tags(tags: Tags | None) -> None:
    defaults = tagged_by_default.__defaults__
    assert defaults is not None
    defaults[0].clear()


# -- lru_cache on a method whose `self` compares equal for all users ---------------------------------------


class Settings:
    def __init__(self) -> None:
        self.values: dict[tuple[str, str], str] = {}


@dataclass(frozen=True)
class SettingsReader:
    """Equal where the options are equal, and so one entry of the cache for all users."""

    store: Settings = field(compare=False)
    user: str = field(compare=False)
    language: str = "en"

    @lru_cache(maxsize=256)  # noqa: B019  the planted leak
    def read(self, name: str) -> str:
        return self.store.values.get((self.user, name), "default")


@dataclass(frozen=True)
class SettingsReaderOfUser:
    store: Settings = field(compare=False)
    user: str
    language: str = "en"

    @lru_cache(maxsize=256)  # noqa: B019  the key holds the user
    def read(self, name: str) -> str:
        return self.store.values.get((self.user, name), "default")


class SettingsService:
    def __init__(self, reader: Any) -> None:
        self._store = Settings()
        self._reader = reader

    def set(self, user: str, name: str, value: str) -> None:
        self._store.values[user, name] = value
        self._reader.read.cache_clear()

    def get(self, user: str, name: str) -> str:
        value: str = self._reader(self._store, user).read(name)
        return value


def settings_of(reader: Any) -> Any:
    def make() -> SettingsService:
        reader.read.cache_clear()
        return SettingsService(reader)

    return make


class SettingsUser(Surface[SettingsService]):
    @operation(name=keys(), value=secrets())
    def set(self, name: str, value: str) -> None:
        self.world.set(self.user.user_id, name, value)

    @operation(name=keys())
    def get(self, name: str) -> str:
        return self.world.get(self.user.user_id, name)


# -- a "current user" attribute across an await ------------------------------------------------------------


class Inbox:
    def __init__(self) -> None:
        self.messages: dict[str, list[str]] = {}

    async def connect(self) -> None:
        await asyncio.sleep(0)  # where a real one asks its server

    async def put(self, user: str, text: str) -> None:
        await self.connect()
        self.messages.setdefault(user, []).append(text)


class InboxWithCurrentUser(Inbox):
    current_user: str

    async def mine(self, user: str) -> list[str]:
        self.current_user = user
        await self.connect()
        return list(self.messages.get(self.current_user, ()))


class InboxWithArgument(Inbox):
    async def mine(self, user: str) -> list[str]:
        await self.connect()
        return list(self.messages.get(user, ()))


class Reader(Surface[Any]):
    @operation(text=secrets())
    async def put(self, text: str) -> None:
        await self.world.put(self.user.user_id, text)

    @operation
    async def mine(self) -> list[str]:
        messages: list[str] = await self.world.mine(self.user.user_id)
        return messages


EXHIBITS = {
    "module_dict_without_user": Exhibit(
        surface=Drafts,
        leaky=DraftsByTitle,
        safe=DraftsByUserAndTitle,
        options={"reset": lambda world: _drafts.clear()},
    ),
    "factory_remembers_first_context": Exhibit(surface=AgentUser, leaky=FactoryOfOne, safe=FactoryOfEach),
    "class_attribute_as_default": Exhibit(
        surface=Buyer,
        leaky=lambda: Shop(BasketOnClass),
        safe=lambda: Shop(BasketOnInstance),
        options={"reset": empty_the_shop},
    ),
    "mutable_default_argument": Exhibit(
        surface=Tagger,
        leaky=lambda: Tags(tagged_by_default),
        safe=lambda: Tags(tagged),
        options={"reset": forget_tags},
    ),
    "lru_cache_on_method": Exhibit(
        surface=SettingsUser, leaky=settings_of(SettingsReader), safe=settings_of(SettingsReaderOfUser)
    ),
    "current_user_across_await": Exhibit(surface=Reader, leaky=InboxWithCurrentUser, safe=InboxWithArgument),
}
