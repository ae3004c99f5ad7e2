"""A notation in which a whole history is a few readable lines.

alice@A  write  plants C1
bob@B    read   sees C1, C2          fails
bob@B    log    sees C1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_ssot_isolation.model.canary import Canary
from pytest_ssot_isolation.model.history import (
    Bound,
    History,
    Observation,
    Outcome,
    Planted,
    Principal,
)

OUTCOMES = {"ok": Outcome.OK, "fails": Outcome.FAILED, "unknown": Outcome.UNKNOWN}
NAME = re.compile(r"\b([CW])(\d+)\b")


@dataclass(frozen=True)
class Mark:
    """A canary of the notation: C1 is a strong one, W1 a weak one."""

    user: int
    slot: int
    path: str = ""
    encoding: str = "plain"
    weak: bool = False


class Story:
    """Reads the notation, and recognises its canaries."""

    def __init__(self) -> None:
        self.owners: dict[str, tuple[int, int]] = {}

    def __call__(
        self,
        text: str,
        *,
        lawful: Iterable[tuple[str, str]] = (),
        public: Sequence[str] = (),
        to: Mapping[str, str] | None = None,
    ) -> History:
        people: dict[str, str] = {}
        observations: list[Observation] = []
        planted: dict[tuple[int, int], Planted] = {}
        bound: dict[int, Bound] = {}
        lines = [line.split() for line in text.strip().splitlines() if line.strip()]
        for who, *_ in lines:
            name, _, tenant = who.partition("@")
            people.setdefault(name, tenant)
        order = list(people)
        for call, (who, operation, *rest) in enumerate(lines):
            user = order.index(who.partition("@")[0])
            outcome = OUTCOMES[rest.pop()] if rest and rest[-1] in OUTCOMES else Outcome.OK
            said = " ".join(rest)
            channel = "log" if operation == "log" else "result"
            names = ["".join(found) for found in NAME.findall(said)]
            seen: object = said.removeprefix("sees ")
            if said.startswith("plants"):
                seen = "done"
                for name in names:
                    self.owners[name] = (user + 1, int(name[1:]))
                    canary = Canary(user + 1, int(name[1:]), "str", name, weak=name[0] == "W")
                    planted[user + 1, int(name[1:])] = Planted(
                        canary=canary,
                        owner=user,
                        call=call,
                        argument="body",
                        public=name in public,
                        readers=frozenset({order.index(to[name])} if to and name in to else ()),
                    )
            bound[call] = Bound(id=call, user=user, operation=operation, arguments=())
            observations.append(
                Observation(
                    index=call, user=user, call=call, operation=operation, channel=channel,
                    outcome=outcome, seen=seen, began=2 * call, ended=2 * call + 1,
                )
            )  # fmt: skip
        principals = tuple(
            Principal(index=n, name=name, user_id=f"{name}-id", tenant_id=tenant, serial=n + 1)
            for n, (name, tenant) in enumerate(people.items())
        )
        return History(
            principals=principals,
            observations=tuple(observations),
            planted=planted,
            bound=bound,
            lawful=frozenset((order.index(viewer), order.index(owner)) for viewer, owner in lawful),
        )

    def scan(self, seen: object) -> Sequence[Any]:
        """Recognise the canaries that any story of this test planted; C99 is of an earlier example."""
        found = []
        for kind, number in NAME.findall(str(seen)):
            user, slot = self.owners.get(kind + number, (99, int(number)))
            found.append(Mark(user, slot, weak=kind == "W"))
        return found


@pytest.fixture
def story() -> Story:
    return Story()


@pytest.fixture
def told() -> Callable[[Any], list[tuple[str | None, str | None, str | None]]]:
    """Findings as victim, offender and operation."""
    return lambda judgement: [(f.victim, f.offender, f.operation) for f in judgement.findings]
