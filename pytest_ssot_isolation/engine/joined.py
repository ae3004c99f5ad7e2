"""Two examples as one history: for a leak that needs what an earlier example left behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.engine.reduce import Example
from pytest_ssot_isolation.engine.script import Script
from pytest_ssot_isolation.generation.casts import CastPlan
from pytest_ssot_isolation.generation.values import POOL
from pytest_ssot_isolation.model.cast import Cast
from pytest_ssot_isolation.model.program import Call, Form, Key, Person, Program, Result, Value
from pytest_ssot_isolation.model.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedPlan:
    """The casts of two examples, one behind the other.

    Attributes:
        first: Of the earlier example.
        second: Of the later one.
        members: Indices of those who take part; all by default.
        ids: ``"joined"``: such ids are not made plainer.
        is_sweep: Whether either is a sweep.
    """

    first: CastPlan
    second: CastPlan
    members: tuple[int, ...] | None = None
    ids: str = "joined"
    is_sweep: bool = False

    def cast(self, nonce: str) -> Cast:
        """Users and keys of both, the later ones with letters of their own."""
        one = self.first.cast(nonce)
        other = self.second.cast(nonce[1:] + nonce[:1] if len(set(nonce)) > 1 else nonce[:-1] + "q")
        contexts, families = one.contexts + other.contexts, one.families + other.families
        if self.members is not None:
            contexts = tuple(contexts[index] for index in self.members)
            families = tuple(families[index] for index in self.members)
        return Cast(contexts, families, one.keys + other.keys)

    def to_plain(self) -> dict[str, Any]:
        """The plan as dicts, lists, strings and numbers."""
        plain: dict[str, Any] = {"joined": [self.first.to_plain(), self.second.to_plain()]}
        if self.members is not None:
            plain["members"] = list(self.members)
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> JoinedPlan:
        """The plan that ``to_plain`` or its JSON stands for."""
        first, second = (CastPlan.from_plain(each) for each in plain["joined"])
        members = plain.get("members")
        return cls(first=first, second=second, members=tuple(members) if members is not None else None)


def join(earlier: Example, later: Example, serial: int) -> Example | None:
    """Put an example before another; None where one of them was joined already.

    Args:
        earlier: What left something behind.
        later: What met it.
        serial: Serial number of the first of all their users.
    """
    one, other = earlier.script, later.script
    if not isinstance(one.plan, CastPlan) or not isinstance(other.plan, CastPlan):
        return None
    users, keys = len(one.surfaces), len(one.plan.cast("count").keys)
    ids = 1 + max((call.id for call in one.program.calls), default=0)
    stages = 1 + max((call.stage for call in one.program.calls), default=0)
    behind = tuple(_behind(call, users, keys, ids, stages) for call in other.program.calls)
    pools = {
        name: tuple(one.pools.get(name, ()))[:POOL] + tuple(other.pools.get(name, ()))[:POOL]
        for name in one.pools.keys() | other.pools.keys()
    }
    script = Script(
        number=other.number,
        program=Program(
            calls=one.program.calls + behind,
            sequential=one.program.sequential and other.program.sequential,
        ),
        surfaces=one.surfaces + other.surfaces,
        plan=JoinedPlan(first=one.plan, second=other.plan, is_sweep=one.plan.is_sweep or other.plan.is_sweep),
        pools=pools,
        serial=serial,
        values=one.values,
        more_values=other.values,
    )
    schedule = Schedule(
        anchors=earlier.schedule.anchors
        + tuple(
            replace(a, at=_moved(a.at, users, ids), to=a.to + users if a.to >= 0 else a.to)
            for a in later.schedule.anchors
        ),
        picks=earlier.schedule.picks
        + tuple(replace(pick, at=_moved(pick.at, users, ids)) for pick in later.schedule.picks),
        faults=earlier.schedule.faults
        + tuple(replace(fault, call=fault.call + ids) for fault in later.schedule.faults),
    )
    return Example(script, schedule)


def _moved(at: tuple[int, int, int], users: int, ids: int) -> tuple[int, int, int]:
    user, call, step = at
    return (user + users if user >= 0 else user, call + ids if call >= 0 else call, step)


def _behind(call: Call, users: int, keys: int, ids: int, stages: int) -> Call:
    arguments: list[tuple[str, Form]] = []
    for name, form in call.arguments:
        if isinstance(form, Key):
            form = Key(form.index + keys)
        elif isinstance(form, Value):
            form = Value(form.index + POOL)
        elif isinstance(form, Person):
            form = Person(form.user + users)
        elif isinstance(form, Result):
            form = replace(form, owner=form.owner + users, call=form.call + ids)
        arguments.append((name, form))
    return Call(call.id + ids, call.user + users, call.operation, tuple(arguments), call.stage + stages)
