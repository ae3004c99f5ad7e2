"""Programs: what several users do. The length is drawn first, then the calls: fat programs find most."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from pytest_ssot_isolation.model.arguments import Drawn, Keys, Observed, OtherUser, Secrets
from pytest_ssot_isolation.model.program import (
    Call,
    Form,
    Key,
    Operation,
    Person,
    Program,
    Result,
    Secret,
    Value,
)

if TYPE_CHECKING:
    import random

T = TypeVar("T")

SHORTEST = 8
"""Calls in the shortest program, where the check allows so many."""

FAT, BACK = 0.84, 0.5
"""Least share of the calls allowed that a program makes, and share of its calls that read back."""

FEW_KEYS = (1, 1, 1, 2, 2, 3)
"""How many keys a program uses: users meet on few."""

FAVOURITE = 0.6
"""How much more likely the first of them is taken."""

SILENT = 2.0
"""How much more an operation is called, before the read-back, that was not seen to tell anything."""

PLANTING_FIRST = 0.85
"""Share of programs in which everybody plants something at the first key before anything else."""

DEEPEST_NEED = 4
"""Operations that refer to each other are followed so far."""

_ENDINGS = frozenset(
    (
        "delete", "remove", "clear", "drop", "purge", "reset", "revoke", "logout", "cancel", "close", "leave",
        "destroy", "wipe", "forget", "archive", "unsubscribe", "disconnect", "disable", "expire",
    )
)  # fmt: skip


def ends_things(operation: Operation) -> bool:
    """Whether an operation's name says that it takes things away.

    Used for the order only: in a read-back nothing is taken away before it was read.
    """
    return _says_end(operation.name)


@lru_cache(maxsize=1024)
def _says_end(name: str) -> bool:
    return not _ENDINGS.isdisjoint(name.lower().split("_"))


def readers(operations: Mapping[str, Operation]) -> list[Operation]:
    """Operations that plant nothing and take nothing away, in the order of declaration."""
    return [op for op in operations.values() if not op.plants and not ends_things(op)]


_key_at = lru_cache(maxsize=256)(Key)
"""Made once for each place: most calls hold one."""


@dataclass(slots=True)
class _Draft:
    """A program in the making."""

    random: random.Random
    operations: Sequence[Mapping[str, Operation]]
    key_places: Sequence[int]
    pool_size: int
    users: Sequence[int]
    favourite: float = 0.0
    calls: list[Call] = field(default_factory=list)
    slots: dict[int, int] = field(default_factory=dict)
    values: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, user: int, operation: Operation, stage: int = 0, key: int | None = None) -> bool:
        """Add one call; False where it refers to an operation that nobody has called yet."""
        forms: list[tuple[str, Form]] = []
        slot = self.slots.get(user, 0)
        for name, spec in operation.arguments.items():
            match spec:
                case Keys():
                    forms.append((name, _key_at(self._key() if key is None else key)))
                case Secrets():
                    forms.append((name, Secret(slot)))
                    slot += 1
                case Observed():
                    made = self._maker_of(spec.operation, user)
                    if made is None:
                        return False
                    forms.append((name, Result(made.user, spec.operation, made.id)))
                case OtherUser():
                    others = [u for u in self.users if u != user]
                    forms.append((name, Person(self.random.choice(others))))
                case Drawn():
                    forms.append((name, Value(self._value(operation.name, name))))
        self.slots[user] = slot
        self.calls.append(Call(len(self.calls), user, operation.name, tuple(forms), stage))
        return True

    def add_with_needs(self, user: int, operation: Operation, key: int | None = None, depth: int = 0) -> bool:
        """Add one call, and before it what it refers to, by anybody; False where that cannot be."""
        if self.add(user, operation, key=key):
            return True
        if depth > DEEPEST_NEED:
            return False
        for name in operation.follows:
            if any(call.operation == name for call in self.calls):
                continue
            maker = self.random.choice(self.users)
            who = maker if name in self.operations[maker] else user
            needed = self.operations[who].get(name)
            if needed is None or not self.add_with_needs(who, needed, key, depth + 1):
                return False
        return self.add(user, operation, key=key)

    def _maker_of(self, operation: str, user: int) -> Call | None:
        made = [call for call in self.calls if call.operation == operation]
        if not made:
            return None
        mine = [call for call in made if call.user == user]
        foreign = [call for call in made if call.user != user]
        side = foreign if foreign and (not mine or self.random.random() < 0.5) else mine
        return self.random.choice(side)

    def _key(self) -> int:
        places = self.key_places
        return places[0] if self.random.random() < self.favourite else _pick(self.random, places)

    def _value(self, operation: str, argument: str) -> int:
        # Few values a program, so that users meet on them as they meet on keys.
        few = self.values.setdefault(
            (operation, argument), [self.random.randrange(self.pool_size) for _ in range(2)]
        )
        return (
            self.random.choice(few) if self.random.random() < 0.8 else self.random.randrange(self.pool_size)
        )


def draw(
    random: random.Random,
    operations: Sequence[Mapping[str, Operation]],
    *,
    most_calls: int,
    keys: int,
    pool_size: int,
    users: Sequence[int] | None = None,
    telling: Container[str] = (),
) -> Program:
    """Draw a fat program: its length, what everybody plants, what they mix, and a read-back by everybody.

    Args:
        random: Fixes all choices.
        operations: Operations by index of the user.
        most_calls: The most calls, all users together.
        keys: Size of the pool of keys.
        pool_size: Size of each pool of drawn values.
        users: Indices of those who act; all by default.
        telling: Names of operations that were seen to answer with something; these are preferred in the
            read-back. Empty where nothing is known.

    Returns:
        A program; in half of them the read-back is a stage of its own, so that all others have ended.
    """
    acting = list(range(len(operations))) if users is None else list(users)
    shortest = min(most_calls, max(SHORTEST, int(most_calls * FAT)))
    length = random.randint(shortest, most_calls)
    few, favourite = random.sample(range(keys), k=min(keys, random.choice(FEW_KEYS))), FAVOURITE
    if random.random() < 1 / 4:
        # The first two are the plain one and, where there is such a pair of users, the one that joins them.
        few, favourite = list(range(min(keys, 2))), 0.0
    draft = _Draft(random, operations, few, pool_size, acting, favourite)
    # Users of one surface share its operations: what is read off them is read once.
    of_surface = {id(operations[user]): operations[user] for user in acting}
    back_of = {key: _read_back_of(ops, telling) for key, ops in of_surface.items()}
    planting_of = {key: [op for op in ops.values() if op.plants] for key, ops in of_surface.items()}
    choice_of = {
        key: (own := list(ops.values()), list(accumulate(_weights(own, telling))))
        for key, ops in of_surface.items()
    }
    back = {user: back_of[id(operations[user])] for user in acting}
    reading = min(int(length * BACK), 3 * len(acting)) if any(back.values()) else 0
    main = max(1, length - reading)
    if random.random() < PLANTING_FIRST:
        # Everybody has something at one place: a read by the wrong user has something to show.
        for user in random.sample(acting, min(len(acting), main // 2)):
            if planting := planting_of[id(operations[user])]:
                (first,) = random.choices(planting, _weights(planting))
                draft.add_with_needs(user, first, key=few[0])
    # Large casts: those who act in one program are few, or nobody would meet anybody.
    while len(draft.calls) < main:
        user = _pick(random, acting)
        own, shares = choice_of[id(operations[user])]
        if not draft.add_with_needs(user, own[bisect(shares, random.random() * shares[-1], 0, len(own) - 1)]):
            break
    # A read-back beside the others' last calls meets what they hold for a moment; after them, what they left.
    stage = random.randrange(2)
    for turn in range(reading):
        user = acting[turn % len(acting)]
        if back[user]:
            draft.add(user, _pick(random, back[user]), stage=stage)
    return Program(calls=tuple(draft.calls))


def _pick(random: random.Random, among: Sequence[T]) -> T:
    """Any of a few, in a fourth of the time that ``choice`` takes: a program makes a hundred such choices."""
    return among[int(random.random() * len(among))]


def _read_back_of(operations: Mapping[str, Operation], telling: Container[str]) -> list[Operation]:
    """Operations for a read-back: those that were seen to tell something, or all readers."""
    reading = readers(operations)
    return [op for op in reading if op.name in telling] or reading


def _weights(operations: Sequence[Operation], telling: Container[str] = ()) -> list[float]:
    # Those that tell something come again in the read-back.
    return [op.weight * (1.0 if op.name in telling else SILENT) for op in operations]


def sweep(
    random: random.Random,
    operations: Sequence[Mapping[str, Operation]],
    *,
    keys: int,
    pool_size: int,
    again: int = 0,
    again_on: int = 1,
    silent: Container[str] = (),
) -> Program:
    """A sequential program in which look-alike users all write, then all read.

    Ids need no schedule. Writes come before reads: a first read would fill caches with nothing and hide
    the leak. The first user, the base of the family, reads again at the end.

    Args:
        random: Fixes the rest of the choices.
        operations: Operations by index of the user; user 0 is the base of the family.
        keys: Size of the pool of keys.
        pool_size: Size of each pool of drawn values.
        again: How often the first user asks for everything once more, at the very end. A limit or a count
            that is shared with one other only shows when it is used up.
        again_on: With how many keys.
        silent: Names of operations that never answer with anything: those that plant nothing come first too, since
            a message only reaches those who joined before.
    """
    everybody = range(len(operations))
    draft = _Draft(random, operations, [0], pool_size, list(everybody))

    def all_do(chosen: Mapping[int, Sequence[Operation]], of_base: int = keys) -> None:
        for user, own in chosen.items():
            for operation in own:
                has_key = any(isinstance(spec, Keys) for spec in operation.arguments.values())
                # The base alone uses every key: what it joins to is what another has under the first.
                for key in range(of_base) if has_key and user == 0 else (0,):
                    draft.add(user, operation, key=key)

    reading = {u: readers(operations[u]) for u in everybody}
    all_do({u: [op for op in reading[u] if op.name in silent] for u in everybody})
    all_do({u: [op for op in operations[u].values() if op.plants and not ends_things(op)] for u in everybody})
    all_do(reading)
    all_do({u: [op for op in operations[u].values() if ends_things(op)] for u in everybody})
    all_do({0: reading[0]})
    for _ in range(again):
        all_do({0: [op for op in operations[0].values() if not ends_things(op)]}, min(keys, again_on))
    return Program(calls=tuple(draft.calls), sequential=True)
