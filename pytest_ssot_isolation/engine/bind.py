"""From the forms of a call to the values it is made with, references included."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.model.arguments import Observed, Secrets
from pytest_ssot_isolation.model.history import Bound, Planted
from pytest_ssot_isolation.model.payload import select
from pytest_ssot_isolation.model.program import Call, Key, Operation, Person, Result, Secret, Value

if TYPE_CHECKING:
    from pytest_ssot_isolation.engine.script import Script
    from pytest_ssot_isolation.model.canary import Mint
    from pytest_ssot_isolation.model.cast import Cast

_TAIL = re.compile(r"^(?P<head>(?:.*[_\-:/])?)(?P<tail>[0-9]+|[0-9a-f]{16,})$", re.DOTALL)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$", re.IGNORECASE)


HAND_SLOTS = 2048
"""From this slot on, canaries were minted by hand and stand in no program."""


_NOBODY: frozenset[Any] = frozenset()


class LeftOut(Exception):
    """A call that cannot be made in this run."""


@dataclass(slots=True)
class Binder:
    """Gives the calls of one run their values, and keeps what they returned.

    Attributes:
        script: The example.
        cast: Who takes part.
        mint: Makes canaries.
        stand_ins: Values that an argument had in another run, by call and argument; where the
            user whose result it was does not act in this run, a like value takes its place that
            nobody's call returned.
    """

    script: Script
    cast: Cast
    mint: Mint
    stand_ins: Mapping[tuple[int, str], object] = field(default_factory=dict)
    planted: dict[tuple[int, int], Planted] = field(default_factory=dict)
    _results: dict[tuple[int, str], dict[int, object]] = field(default_factory=dict)
    _by_hand: dict[int, int] = field(default_factory=dict)
    _acting: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self._acting = frozenset(call.user for call in self.script.program.calls)

    def keep(self, call: Call, seen: object) -> None:
        """Take down what a successful call returned, for calls that refer to it."""
        self._results.setdefault((call.user, call.operation), {})[call.id] = seen

    def bind(self, call: Call, operation: Operation) -> Bound:
        """Give one call its values.

        Raises:
            LeftOut: It refers to a result that is not there.
        """
        values: list[tuple[str, object]] = []
        references: list[tuple[str, int]] = []
        substituted: set[str] = set()
        for name, form in call.arguments:
            value: object
            # By type: a match asks each class for its fields anew, at every call.
            if type(form) is Key:
                value = self.cast.keys[form.index % len(self.cast.keys)]
            elif type(form) is Value:
                pool = self.script.pools[call.operation, name]
                value = pool[form.index % len(pool)]
            elif type(form) is Secret:
                value = self._secret(call, operation, name, form.slot)
            elif type(form) is Person:
                value = self.cast.contexts[form.user].user_id
            elif type(form) is Result:
                spec = operation.arguments[name]
                references.append((name, form.owner))
                if form.owner in self._acting:
                    path = spec.path if isinstance(spec, Observed) else None
                    value = self._result(form.owner, form.operation, form.call, path)
                elif (call.id, name) in self.stand_ins:
                    value = never_returned(self.stand_ins[call.id, name])
                    substituted.add(name)
                else:
                    raise LeftOut
            values.append((name, value))
        return Bound(
            id=call.id,
            user=call.user,
            operation=call.operation,
            arguments=tuple(values),
            references=tuple(references),
            substituted=frozenset(substituted) if substituted else _NOBODY,
        )

    def _secret(self, call: Call, operation: Operation, name: str, slot: int) -> object:
        """The canary that a call carries in, and whom it is for."""
        spec = operation.arguments[name]
        if not isinstance(spec, Secrets):  # pragma: no cover - programs are made from the specs
            raise LeftOut
        serial = self.script.serial + call.user
        canary = self.mint.mint_as(serial, slot, spec.kind, spec.shape)
        addressee = dict(call.arguments).get(spec.to) if spec.to else None
        self.planted[serial, slot] = Planted(
            canary=canary,
            owner=call.user,
            call=call.id,
            argument=name,
            readers=frozenset({addressee.user}) if isinstance(addressee, Person) else _NOBODY,
            public=name in operation.publishes,
        )
        return canary.value

    def plant(self, user: int, call: int, kind: Any, shape: Mapping[str, Any]) -> object:
        """Mint a canary that no argument holds: one that a test asked for by hand."""
        slot = HAND_SLOTS + self._by_hand.get(user, 0)
        self._by_hand[user] = self._by_hand.get(user, 0) + 1
        canary = self.mint.mint(self.script.serial + user, slot, kind, **shape)
        self.planted[canary.user, canary.slot] = Planted(canary=canary, owner=user, call=call, argument="")
        return canary.value

    def _result(self, owner: int, operation: str, wanted: int, path: str | None) -> object:
        returned = self._results.get((owner, operation))
        if not returned:
            raise LeftOut
        seen = returned[wanted] if wanted in returned else returned[next(reversed(returned))]
        value = pick(seen, path)
        if value is None:
            raise LeftOut
        return value


def pick(seen: object, path: str | None) -> object:
    """The value that ``observed`` refers to in an answer.

    Without a path: a plain answer itself; of a mapping its ``id`` (for an answer over HTTP, that of
    the body), since that is what a later call would use.
    """
    if path is None:
        if not isinstance(seen, Mapping):
            return seen
        if {"status", "headers", "body"} <= seen.keys():
            body = seen["body"]
            return pick(body, None) if isinstance(body, Mapping) else body
        return seen.get("id", seen)
    for value in select(seen, path):
        return value
    return None


def never_returned(value: object) -> object:
    """A value of the same shape that no call returned, such as an id that does not exist.

    Raises:
        LeftOut: No such value can be made for sure: the shape is not understood, and a wrong one
            could be refused for its form instead of for being unknown.
    """
    if isinstance(value, bool):
        raise LeftOut
    if isinstance(value, int):
        return value + 1_000_003 if value < 2**30 else value ^ 0x5A5A5A5
    if isinstance(value, uuid.UUID):
        return uuid.UUID(int=value.int ^ 0x5A5A5A5A5A5A5A5A5A5A)
    if isinstance(value, str):
        if _UUID.fullmatch(value):
            other = str(never_returned(uuid.UUID(value)))
            return other.upper() if value.isupper() else other
        if found := _TAIL.match(value):
            tail = found["tail"]
            if tail.isdigit():
                return found["head"] + str(int(tail) + 1_000_003).zfill(len(tail))
            turned = "".join("0123456789abcdef"[15 - int(letter, 16)] for letter in tail)
            return found["head"] + turned
    raise LeftOut
