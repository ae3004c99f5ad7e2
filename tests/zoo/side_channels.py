"""Family 14: what is told by a number, an error, an order or a limit; and what one user takes from all."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

from pytest_ssot_isolation.generation.strategies import keys, observed, secrets
from pytest_ssot_isolation.surfaces.base import Surface, operation

from .exhibits import Exhibit

# -- a shelf of documents, whose answers tell of others' -----------------------------------------------------


class NotFound(LookupError):
    pass


class Forbidden(PermissionError):
    pass


class Taken(ValueError):
    pass


class Shelf:
    def __init__(self) -> None:
        self._rows: dict[str, tuple[str, str, str]] = {}
        self._opened: dict[str, int] = {}
        self._clock = 0
        self._numbers: Counter[str] = Counter()

    def new_id(self, user: str) -> str:
        return uuid.uuid4().hex

    def of(self, user: str) -> list[tuple[str, str]]:
        return [(title, text) for owner, title, text in self._rows.values() if owner == user]

    async def put(self, user: str, title: str, text: str) -> str:
        await asyncio.sleep(0)
        made = self.new_id(user)
        self._rows[made] = (user, title, text)
        return made

    async def get(self, user: str, document: str) -> str:
        await asyncio.sleep(0)
        owner, _, text = self._rows.get(document, ("", "", ""))
        if owner != user:
            raise NotFound("there is no such document")
        return text

    async def page(self, user: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        mine = self.of(user)
        return {"items": [text for _, text in mine[:3]], "total": self.total(user)}

    def total(self, user: str) -> int:
        return len(self.of(user))

    async def remove(self, user: str, document: str) -> None:
        await asyncio.sleep(0)
        if self._rows.get(document, ("",))[0] == user:
            del self._rows[document]


class ShelfWithTotalOfAll(Shelf):
    def total(self, user: str) -> int:
        return len(self._rows)


class ShelfThatForbids(Shelf):
    async def get(self, user: str, document: str) -> str:
        await asyncio.sleep(0)
        if document not in self._rows:
            raise NotFound("there is no such document")
        owner, _, text = self._rows[document]
        if owner != user:
            raise Forbidden("this document is not yours")
        return text


class ShelfUser(Surface[Shelf]):
    opaque = ("put:*",)

    @operation(title=keys(), text=secrets())
    async def put(self, title: str, text: str) -> str:
        return await self.world.put(self.user.user_id, title, text)

    @operation(document=observed("put"))
    async def get(self, document: str) -> str:
        return await self.world.get(self.user.user_id, document)

    @operation
    async def page(self) -> dict[str, Any]:
        return await self.world.page(self.user.user_id)

    @operation(document=observed("put"))
    async def remove(self, document: str) -> None:
        await self.world.remove(self.user.user_id, document)


# -- the error of a duplicate tells what another called it ---------------------------------------------------


class Projects:
    def __init__(self, key: Callable[[str, str], Hashable]) -> None:
        self._key = key
        self._rows: dict[Hashable, tuple[str, str]] = {}

    async def create(self, user: str, slug: str, purpose: str) -> str:
        await asyncio.sleep(0)
        key = self._key(user, slug)
        if key in self._rows:
            raise Taken(f"{slug!r} exists already")
        self._rows[key] = (user, purpose)
        return "created"

    async def mine(self, user: str) -> list[str]:
        await asyncio.sleep(0)
        return [purpose for owner, purpose in self._rows.values() if owner == user]


class ProjectUser(Surface[Projects]):
    @operation(slug=keys(), purpose=secrets())
    async def create(self, slug: str, purpose: str) -> str:
        return await self.world.create(self.user.user_id, slug, purpose)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)


# -- numbers with gaps, where others took the numbers between ------------------------------------------------


class Invoices:
    def __init__(self, series: Callable[[str], Hashable]) -> None:
        self._series = series
        self._last: Counter[Hashable] = Counter()
        self._rows: dict[str, list[tuple[int, str]]] = {}

    async def write(self, user: str, text: str) -> dict[str, int]:
        await asyncio.sleep(0)
        self._last[self._series(user)] += 1
        number = self._last[self._series(user)]
        self._rows.setdefault(user, []).append((number, text))
        return {"invoice_id": number}

    async def mine(self, user: str) -> list[str]:
        return [text for _, text in self._rows.get(user, ())]


class InvoiceUser(Surface[Invoices]):
    @operation(text=secrets())
    async def write(self, text: str) -> dict[str, int]:
        return await self.world.write(self.user.user_id, text)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)


# -- an order that hangs on what everybody opened ------------------------------------------------------------


class Library:
    """Lists what a user wrote under the topics that were opened most."""

    def __init__(self, counted_for: Callable[[str, str], Hashable]) -> None:
        self._counted_for = counted_for
        self._opened: Counter[Hashable] = Counter()
        self._texts: dict[tuple[str, str], str] = {}

    async def write(self, user: str, topic: str, text: str) -> None:
        self._texts[user, topic] = text

    async def open(self, user: str, topic: str) -> str | None:
        await asyncio.sleep(0)
        self._opened[self._counted_for(user, topic)] += 1
        return self._texts.get((user, topic))

    async def listing(self, user: str) -> list[str]:
        await asyncio.sleep(0)
        mine = [(topic, text) for (owner, topic), text in self._texts.items() if owner == user]
        mine.sort(key=lambda one: (-self._opened[self._counted_for(user, one[0])], one[0]))
        return [text for _, text in mine]


class LibraryUser(Surface[Library]):
    @operation(topic=keys(), text=secrets())
    async def write(self, topic: str, text: str) -> None:
        await self.world.write(self.user.user_id, topic, text)

    @operation(topic=keys())
    async def read(self, topic: str) -> str | None:
        return await self.world.open(self.user.user_id, topic)

    @operation
    async def listing(self) -> list[str]:
        return await self.world.listing(self.user.user_id)


# -- a limit that all users share ----------------------------------------------------------------------------


class TooMany(RuntimeError):
    pass


class Quoted:
    """Five notes an hour for each user."""

    def __init__(self, bucket: Callable[[str], Hashable]) -> None:
        self._bucket = bucket
        self._used: Counter[Hashable] = Counter()
        self._notes: dict[str, list[str]] = {}

    async def add(self, user: str, text: str) -> int:
        await asyncio.sleep(0)
        self._used[self._bucket(user)] += 1
        if self._used[self._bucket(user)] > 5:
            raise TooMany("five notes an hour")
        self._notes.setdefault(user, []).append(text)
        return len(self._notes[user])

    async def mine(self, user: str) -> list[str]:
        return list(self._notes.get(user, ()))


class QuotaUser(Surface[Quoted]):
    @operation(text=secrets())
    async def add(self, text: str) -> int:
        return await self.world.add(self.user.user_id, text)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)


# -- one user's failures open the circuit breaker for all ----------------------------------------------------


class CircuitOpen(RuntimeError):
    pass


class Webhooks:
    """Delivers to each user's own address; stops for a while after three failures in a row."""

    def __init__(self, breaker_of: Callable[[str], Hashable]) -> None:
        self._breaker_of = breaker_of
        self._failures: Counter[Hashable] = Counter()
        self._delivered: dict[str, list[str]] = {}

    async def deliver(self, user: str, text: str, *, reachable: bool = True) -> str:
        breaker = self._breaker_of(user)
        if self._failures[breaker] >= 3:
            raise CircuitOpen("deliveries are suspended")
        await asyncio.sleep(0)
        if not reachable:
            self._failures[breaker] += 1
            raise ConnectionError("the address does not answer")
        self._failures[breaker] = 0
        self._delivered.setdefault(user, []).append(text)
        return "delivered"

    async def log(self, user: str) -> list[str]:
        return list(self._delivered.get(user, ()))


class WebhookUser(Surface[Webhooks]):
    @operation(text=secrets())
    async def deliver(self, text: str) -> str:
        return await self.world.deliver(self.user.user_id, text)

    @operation(may_fail=True)
    async def deliver_to_a_dead_address(self) -> str:
        return await self.world.deliver(self.user.user_id, "ping", reachable=False)

    @operation
    async def log(self) -> list[str]:
        return await self.world.log(self.user.user_id)


# -- a place in the pool that a cancelled request does not give back -----------------------------------------


class Rendering:
    """Renders two pages at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(2)
        self._pages: dict[str, list[str]] = {}

    async def _render(self, user: str, text: str) -> int:
        await asyncio.sleep(0)
        pages = self._pages.setdefault(user, [])
        pages.append(text)
        await asyncio.sleep(0)
        return len(pages)

    async def render(self, user: str, text: str) -> int:
        async with asyncio.timeout(30), self._places:
            return await self._render(user, text)

    async def mine(self, user: str) -> list[str]:
        return list(self._pages.get(user, ()))


class RenderingThatLosesPlaces(Rendering):
    async def render(self, user: str, text: str) -> int:
        async with asyncio.timeout(30):
            await self._places.acquire()
        try:
            number = await self._render(user, text)
        except Exception:
            self._places.release()
            raise
        self._places.release()
        return number


class RenderingUser(Surface[Rendering]):
    @operation(text=secrets())
    async def render(self, text: str) -> int:
        return await self.world.render(self.user.user_id, text)

    @operation
    async def mine(self) -> list[str]:
        return await self.world.mine(self.user.user_id)


# -- one user's broken settings break the factory for all ----------------------------------------------------


class BadTemplate(ValueError):
    pass


class Mailer:
    def __init__(self, template: str) -> None:
        if "{" in template and "}" not in template:
            raise BadTemplate("the template has an open brace")
        self._template = template

    def greet(self) -> str:
        return self._template


class Mailers:
    """Makes a mailer for each user from the user's own template."""

    def __init__(self) -> None:
        self._templates: dict[str, str] = {}
        self._made: dict[str, Mailer] = {}

    async def set_template(self, user: str, template: str) -> None:
        self._templates[user] = template
        self._made.pop(user, None)

    async def mailer(self, user: str) -> Mailer:
        if user not in self._made:
            await asyncio.sleep(0)
            self._made[user] = Mailer(self._templates.get(user, "hello"))
        return self._made[user]

    async def greet(self, user: str) -> str:
        return (await self.mailer(user)).greet()


class MailersThatStayBroken(Mailers):
    """Makes all mailers that are due at once, and remembers that it is doing so."""

    _is_making = False

    async def mailer(self, user: str) -> Mailer:
        if user not in self._made:
            if self._is_making:
                raise RuntimeError("mailers are being made, try again")
            self._is_making = True
            self._made[user] = Mailer(self._templates.get(user, "hello"))
            self._is_making = False
        return self._made[user]


class MailUser(Surface[Mailers]):
    @operation(text=secrets(wrap="Dear reader, {}"))
    async def set_template(self, text: str) -> None:
        await self.world.set_template(self.user.user_id, text)

    @operation
    async def set_broken_template(self) -> None:
        await self.world.set_template(self.user.user_id, "Dear {reader")

    @operation
    async def greet(self) -> str:
        return await self.world.greet(self.user.user_id)


# -- a log line, and the label of a metric, with another's value ---------------------------------------------

logger = logging.getLogger("zoo.search")


class Search:
    """Logs slow searches; the log is shipped to the account that caused it."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._last: str = ""

    async def add(self, user: str, text: str) -> None:
        self._texts.setdefault(user, []).append(text)

    async def search(self, user: str) -> list[str]:
        found = self._texts.get(user, [])
        await asyncio.sleep(0)
        self.report(found)
        return list(found)

    def report(self, found: list[str]) -> None:
        logger.info("search done: %d found, first %r", len(found), found[:1])


class SearchThatLogsTheLast(Search):
    def report(self, found: list[str]) -> None:
        logger.info("search done: %d found, the one before found %r", len(found), self._last)
        self._last = found[0] if found else ""


class SearchUser(Surface[Search]):
    @operation(text=secrets())
    async def add(self, text: str) -> None:
        await self.world.add(self.user.user_id, text)

    @operation
    async def search(self) -> list[str]:
        return await self.world.search(self.user.user_id)


class Metered:
    """Each user sees the metrics of one's own requests, by the plan that they were labelled with."""

    def __init__(self) -> None:
        self._labels: dict[str, str] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    async def label(self, user: str, label: str) -> None:
        self._labels[user] = label

    async def work(self, user: str) -> None:
        await asyncio.sleep(0)
        self._counts[user, self._labels.get(user, "")] += 1

    async def metrics(self, user: str) -> dict[str, int]:
        return {label: count for (owner, label), count in sorted(self._counts.items()) if owner == user}


class MeteredByProcess(Metered):
    async def metrics(self, user: str) -> dict[str, int]:
        total: Counter[str] = Counter()
        for (_, label), count in sorted(self._counts.items()):
            total[label] += count
        return dict(total)


class MetricsUser(Surface[Metered]):
    @operation(label=secrets(max_length=32))
    async def label(self, label: str) -> None:
        await self.world.label(self.user.user_id, label)

    @operation
    async def work(self) -> None:
        await self.world.work(self.user.user_id)

    @operation
    async def metrics(self) -> dict[str, int]:
        return await self.world.metrics(self.user.user_id)


# -- "when was anything last changed" ------------------------------------------------------------------------


class Board:
    """Tells a client whether its copy is fresh, by a version."""

    def __init__(self, version_of: Callable[[str], Hashable]) -> None:
        self._version_of = version_of
        self._versions: Counter[Hashable] = Counter()
        self._cards: dict[str, list[str]] = {}
        self._since = time.monotonic()

    async def pin(self, user: str, text: str) -> None:
        self._versions[self._version_of(user)] += 1
        self._cards.setdefault(user, []).append(text)

    async def cards(self, user: str) -> dict[str, Any]:
        return {"version": self._versions[self._version_of(user)], "cards": list(self._cards.get(user, ()))}


class BoardUser(Surface[Board]):
    @operation(text=secrets())
    async def pin(self, text: str) -> None:
        await self.world.pin(self.user.user_id, text)

    @operation
    async def cards(self) -> dict[str, Any]:
        return await self.world.cards(self.user.user_id)


def own(user: str) -> Hashable:
    return user


def of_all(user: str) -> Hashable:
    return "all"


EXHIBITS = {
    "total_of_all": Exhibit(surface=ShelfUser, leaky=ShelfWithTotalOfAll, safe=Shelf),
    "forbidden_instead_of_missing": Exhibit(surface=ShelfUser, leaky=ShelfThatForbids, safe=Shelf),
    "name_taken_by_another": Exhibit(
        surface=ProjectUser,
        leaky=lambda: Projects(lambda user, slug: slug),
        safe=lambda: Projects(lambda user, slug: (user, slug)),
    ),
    "gaps_in_numbers": Exhibit(
        surface=InvoiceUser, leaky=lambda: Invoices(of_all), safe=lambda: Invoices(own)
    ),
    "order_by_everybodys_use": Exhibit(
        surface=LibraryUser,
        leaky=lambda: Library(lambda user, topic: topic),
        safe=lambda: Library(lambda user, topic: (user, topic)),
    ),
    "limit_shared_by_all": Exhibit(surface=QuotaUser, leaky=lambda: Quoted(of_all), safe=lambda: Quoted(own)),
    "breaker_opens_for_all": Exhibit(
        surface=WebhookUser, leaky=lambda: Webhooks(of_all), safe=lambda: Webhooks(own)
    ),
    "place_lost_on_cancel": Exhibit(
        surface=RenderingUser,
        leaky=RenderingThatLosesPlaces,
        safe=Rendering,
        options={"faults": ("cancel",)},
    ),
    "broken_construction_breaks_factory": Exhibit(
        surface=MailUser, leaky=MailersThatStayBroken, safe=Mailers
    ),
    "log_line_of_another": Exhibit(surface=SearchUser, leaky=SearchThatLogsTheLast, safe=Search),
    "metric_label_of_another": Exhibit(surface=MetricsUser, leaky=MeteredByProcess, safe=Metered),
    "version_of_the_whole_board": Exhibit(
        surface=BoardUser, leaky=lambda: Board(of_all), safe=lambda: Board(own)
    ),
}
