"""A small stage: each user is a function, and one run at the gate is one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pytest_ssot_isolation import Surface, operation
from pytest_ssot_isolation.engine.choosers import RandomWalk, Recorded
from pytest_ssot_isolation.engine.faults import Faults
from pytest_ssot_isolation.engine.host import Host
from pytest_ssot_isolation.engine.lanes import USER
from pytest_ssot_isolation.engine.run import Run, Terms
from pytest_ssot_isolation.engine.script import Script
from pytest_ssot_isolation.generation.casts import CastPlan
from pytest_ssot_isolation.model.canary import Mint
from pytest_ssot_isolation.model.history import History, Outcome, Trouble
from pytest_ssot_isolation.model.program import Call, Program
from pytest_ssot_isolation.model.schedule import Fault, Schedule

Act = Callable[[], Awaitable[Any]]


class Actor(Surface[Any]):
    """Does what the function of its user does."""

    @operation
    async def act(self) -> Any:
        user = USER.get()
        return await self.world[user]()


@dataclass(frozen=True)
class Played:
    """What came of one run."""

    history: History

    @property
    def trace(self) -> tuple[tuple[int, int], ...]:
        """The steps, as user and number of the lane."""
        return self.history.trace

    @property
    def schedule(self) -> Schedule:
        """The choices."""
        return self.history.schedule

    @property
    def trouble(self) -> Trouble | None:
        """Why the run was cut short."""
        return self.history.trouble

    @property
    def users(self) -> str:
        """Who acted, a letter for each step."""
        return "".join("abcdefgh"[user] if user >= 0 else "." for user, _ in self.trace)

    def answers(self, user: int) -> list[Any]:
        """What a user's calls gave."""
        return [o.seen for o in self.history.observations if o.user == user and o.channel == "result"]

    def outcomes(self, user: int) -> list[Outcome]:
        """How a user's calls ended."""
        return [o.outcome for o in self.history.observations if o.user == user and o.channel == "result"]

    @property
    def seen(self) -> str:
        """Everything that everybody saw, to be compared."""
        return repr(
            [(o.user, o.call, o.outcome, o.seen, o.began, o.ended) for o in self.history.observations]
        )


class Stage:
    """One loop, in which runs are made."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.loop = host.loop
        self.terms = Terms(mint=Mint(b"stage"))

    def set(self, **terms: Any) -> None:
        """Change what holds for the runs."""
        self.terms = replace(self.terms, **terms)

    def run(
        self,
        *acts: Act,
        walk: int | None = None,
        schedule: Schedule | None = None,
        strict: bool = False,
        faults: Sequence[Fault] = (),
        calls: int = 1,
    ) -> Played:
        """Let each user make so many calls, under a random walk or a schedule."""
        return Played(self.host.run(self.make(acts, walk, schedule, strict, faults, calls).perform()))

    def make(
        self,
        acts: Sequence[Act],
        walk: int | None = None,
        schedule: Schedule | None = None,
        strict: bool = False,
        faults: Sequence[Fault] = (),
        calls: int = 1,
    ) -> Run:
        """A run that was not begun."""
        plan = CastPlan(ids="plain", count=len(acts))
        made = tuple(
            Call(turn * len(acts) + user, user, "act") for turn in range(calls) for user in range(len(acts))
        )
        script = Script(
            number=0, program=Program(calls=made), surfaces=(Actor,) * len(acts), plan=plan, serial=1
        )
        chooser: Any = (
            RandomWalk(walk) if walk is not None else Recorded(schedule or Schedule(), strict=strict)
        )
        ordered = Faults([*faults, *(schedule.faults if schedule is not None else ())], self.terms.gone)
        return Run(script, plan.cast("abcde"), tuple(acts), self.terms, chooser, ordered)

    def replay(self, played: Played, *acts: Act, calls: int = 1) -> Played:
        """The same choices again."""
        return self.run(*acts, schedule=played.schedule, strict=True, calls=calls)


@contextmanager
def staged(kind: str = "asyncio", busy_patience: float = 5.0) -> Iterator[Stage]:
    """A stage over a loop of this kind."""
    with Host(kind, busy_patience) as host:
        yield Stage(host)


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A stage over the standard loop."""
    with staged() as made:
        yield made


@pytest.fixture(name="staged")
def staged_fixture() -> Callable[..., Any]:
    """Makes stages of other kinds: ``with staged("uvloop") as stage``."""
    return staged
