"""What all mutations have in common: guards that can be weakened, and the stage on which that is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from pytest_ssot_isolation.mutation.who import Roster


@dataclass(slots=True)
class Reach:
    """Whether a weakened guard was executed.

    Attributes:
        count: How often.
    """

    count: int = 0


class Guard(Protocol):
    """One guard of the application."""

    @property
    def place(self) -> str:
        """What it is and where, in words."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether it is known already that the check does not come near it."""
        ...

    def weakened(self) -> AbstractContextManager[Reach]:
        """Weaken it for a while; it is back when this is left, however it is left."""
        ...


class Mutation(Protocol):
    """One way of weakening guards."""

    def recording(self) -> AbstractContextManager[object]:
        """Look for guards while the check itself runs, and change nothing."""
        ...

    def found(self) -> Sequence[Guard]:
        """The guards that were seen, in a fixed order."""
        ...

    def absent(self) -> str:
        """Why none was found, in words."""
        ...


@dataclass(slots=True)
class Stage:
    """What mutations know of the runs that go on.

    Attributes:
        roster: Whose code runs.
        entered: Called when a world was entered.
        leaving: Called before a world is left.
    """

    roster: Roster = field(default_factory=Roster)
    entered: list[Callable[[], object]] = field(default_factory=list)
    leaving: list[Callable[[], object]] = field(default_factory=list)

    @asynccontextmanager
    async def around(self, world: Any) -> AsyncIterator[Any]:
        """Tell of the beginning and the end of a world."""
        for tell in tuple(self.entered):
            tell()
        yield world
        for tell in tuple(self.leaving):
            tell()
