"""Users whose ids and tenants are look-alikes, and the keys that are drawn together with them.

Everything here depends only on its arguments, the given ``random.Random`` among them, so that a recorded
example meets the same users again.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from string import ascii_lowercase, digits
from typing import Final, Literal

from pytest_ssot_isolation.generation.families import FAMILIES, SEPARATORS, Relative, relatives, units
from pytest_ssot_isolation.generation.users import Identity, Tenants, housed, integers, plain, uuids

__all__ = [
    "ALL_FAMILIES",
    "BOUNDARY",
    "FAMILIES",
    "JOINT",
    "KINDS",
    "SEPARATORS",
    "Identity",
    "Relative",
    "Tenants",
    "deal",
    "identities",
    "integers",
    "key_pool",
    "plain",
    "relatives",
    "sweep",
    "uuids",
]

BOUNDARY: Final = "moving boundary"
"""The family of tenant and user that give one text when joined: (ab, c) and (a, bc)."""

JOINT: Final = "joint with a key"
"""The family of user and key that give one text when joined: X with K1:K2, and X:K1 with K2."""

ALL_FAMILIES: Final = (BOUNDARY, JOINT, *FAMILIES)
"""Each family an `Identity` may be of, but for ``base``."""

KINDS: Final = ("hostile", "plain", "int", "uuid")
"""What the parameter ``ids`` of a check may name."""

LEAF_KEY: Final = "notes"
JOINT_KEY: Final = "draft"

# Each word has what the families work on: an i, a double s, a k, a separator and a number.
_WORDS: Final = ("kriss-7", "missik-3", "ikess-12", "sskai-5")
_JOINERS: Final = (
    ":",
    "/",
    "-",
    "_",
    "|",
    "",
    " ",
    ".",
    ",",
    "#",
    "@",
    "+",
    ";",
    "~",
    "%",
    "&",
    "=",
    "\\",
    "$",
    "!",
)
_LONG_JOINERS: Final = (", ", "::", "--", "__", " - ", "', '", "->")

# So many users share one base before another is taken; it has some 290 relatives.
_PER_BASE: Final = 150
_MISSES: Final = 20

# In a sweep, the families of the commonest leaks have more turns, those of the rarest every other one.
_TURNS: Final = {JOINT: 3, "separator": 2}
_HALF_TURNS: Final = frozenset(
    {"case folding", "path form", "quote", "invisible character", "lossy encoding"}
)
# So many units of a family come in their own order; the others are drawn.
_IN_ORDER: Final = {JOINT: 12, BOUNDARY: 8, "separator": 6}
_FEWEST_IN_ORDER: Final = 3

# Stands for the nonce in the kept tables; no family touches or makes a private character.
_MARK: Final = "\ue000"

# A unit of users: one is confused with the base, two with each other. Tenant and user of each, with marks.
_Unit = tuple[tuple[str, str], ...]


def identities(
    rng: random.Random,
    nonce: str,
    count: int,
    *,
    tenants: Tenants = None,
    argument_names: Sequence[str] = (),
    refused: Iterable[str] = (),
) -> list[Identity]:
    """Draw users for an interleaved program: pairs of look-alikes against one base.

    Args:
        rng: The source of all choices.
        nonce: 4 to 6 lower-case letters and digits; each user id holds it.
        count: How many users. Past 150 another base is taken.
        tenants: How many tenants or which; see `Tenants`. The first two of three or more users share the
            first one, the others go round.
        argument_names: Names that the operations give to keys, for ids that a key may join.
        refused: Families that the application does not accept.
    """
    homes = _look_alike_tenants(nonce, tenants)
    drawn: dict[str, Identity] = {}
    serial = 0
    while len(drawn) < count:
        word = f"{_WORDS[serial % 4]}{serial}" if serial else rng.choice(_WORDS)
        table = _table(len(nonce), word, tuple(argument_names), homes is not None)
        names = [name for name in table if name not in refused]
        enough = min(count, len(drawn) + _PER_BASE)
        based, misses = False, 0
        # With most families refused, a base has fewer relatives than places; then comes the next base.
        while len(drawn) < enough and misses < _MISSES:
            name = rng.choice(names) if names else ""
            unit = _filled(rng.choice(table[name]), nonce, name) if name else []
            before = len(drawn)
            # Twins need no base: with two users left to draw, it would only take a twin's place.
            if not based and not (len(unit) == 2 == enough - len(drawn)):
                base = f"{nonce}{word}"
                drawn[base] = Identity(f"{nonce}t", base, "base")
            based = True
            for each in unit[: enough - len(drawn)]:
                drawn.setdefault(each.user_id, each)
            misses = 0 if len(drawn) > before else misses + 1
        serial += 1
    users = list(drawn.values())
    rng.shuffle(users)
    return housed(users, homes)


def sweep(
    rng: random.Random,
    nonce: str,
    count: int = 80,
    *,
    tenants: Tenants = None,
    argument_names: Sequence[str] = (),
    refused: Iterable[str] = (),
    vary: Literal["user", "tenant"] = "user",
) -> list[Identity]:
    """Draw users for a sequential sweep: the base first, then its relatives, the most valuable first.

    Args:
        rng: Draws the less valuable relatives of each family, of which there are more than fit.
        nonce: 4 to 6 lower-case letters and digits; each user id holds it.
        count: How many users; at most some 290. All families are there from 40 on.
        tenants: How many tenants or which; see `Tenants`.
        argument_names: Names that the operations give to keys, for ids that a key may join.
        refused: Families that the application does not accept.
        vary: ``tenant`` makes the tenants the relatives, each with one plain user: for checks whose
            boundary is the tenant.
    """
    homes = _look_alike_tenants(nonce, tenants)
    word = _WORDS[0]
    table = _table(len(nonce), word, tuple(argument_names), homes is not None or vary == "tenant")
    queues = {
        name: iter(_ordered(rng, found, _IN_ORDER.get(name, _FEWEST_IN_ORDER)))
        for name, found in table.items()
        if name not in refused
    }
    drawn = {f"{nonce}{word}": Identity(f"{nonce}t", f"{nonce}{word}", "base")}
    turn = 0
    while queues and len(drawn) < count:
        for name in list(queues):
            if name in _HALF_TURNS and turn % 2:
                continue
            for _ in range(_TURNS.get(name, 1)):
                unit = next(queues[name], None)
                if unit is None:
                    del queues[name]
                    break
                for each in _filled(unit, nonce, name):
                    drawn.setdefault(each.user_id, each)
        turn += 1
    users = list(drawn.values())[:count]
    if vary == "tenant":
        return [Identity(each.user_id, f"{nonce}u{place}", each.family) for place, each in enumerate(users)]
    return housed(users, homes)


def deal(
    ids: str,
    rng: random.Random,
    nonce: str,
    count: int,
    *,
    tenants: Tenants = None,
    argument_names: Sequence[str] = (),
    refused: Iterable[str] = (),
) -> list[Identity]:
    """Draw users for a program whose ids are of the named kind; see `identities` for the rest.

    Raises:
        ValueError: There is no such kind.
    """
    match ids:
        case "hostile":
            return identities(
                rng, nonce, count, tenants=tenants, argument_names=argument_names, refused=refused
            )
        case "plain":
            return plain(nonce, count, tenants=tenants)
        case "int":
            return integers(rng, nonce, count, tenants=tenants)
        case "uuid":
            return uuids(rng, nonce, count, tenants=tenants)
    raise ValueError(
        f"ids={ids!r} is not a kind of ids.\n"
        f"To fix this, use one of {', '.join(map(repr, KINDS))}, or a Hypothesis strategy of strings."
    )


def key_pool(
    rng: random.Random,
    users: Sequence[Identity],
    *,
    size: int = 6,
    argument_names: Sequence[str] = (),
) -> tuple[str, ...]:
    """Draw the keys that all users of a program share, so that they collide on them.

    Args:
        rng: The source of all choices.
        users: Where one is ``X`` and another ``X:K1``, the pool holds ``K2`` and ``K1:K2``.
        size: The most keys. Joint ones leave room for a second plain one and a look-alike; for a sweep
            take 16 or more.
        argument_names: Names that the operations give to keys: ``X:title:K`` is a join as well.

    Returns:
        Distinct keys, the plain one first, joint ones next.
    """
    joint = list(dict.fromkeys(_joint_keys(users, argument_names)))
    pool = dict.fromkeys([LEAF_KEY, *joint[: max(size - 3, 0)], JOINT_KEY])
    others = _look_alike_keys()
    most = min(size, len(others))
    while len(pool) < most:
        pool[others[int(rng.random() * len(others))]] = None
    return tuple(pool)[:size]


@lru_cache(maxsize=1)
def _look_alike_keys() -> tuple[str, ...]:
    return tuple(each.text for each in relatives(LEAF_KEY) if len(each.text) <= 2 * len(LEAF_KEY))


def _joint_keys(users: Sequence[Identity], argument_names: Sequence[str]) -> Iterator[str]:
    """Give the keys with which one user writes what another writes under the plain key."""
    # Pairs are sought among all ids, but only so many: a thousand users would need a second.
    ids = {each.user_id: each.family for each in users[:200]}
    if JOINT in ids.values():
        yield from _keys_of_the_base(users)
    texts, lengths = tuple(ids), {len(text) for text in ids}
    for longer in sorted(ids, key=lambda text: ids[text] != JOINT):
        if not (longer[:-1].startswith(texts) or longer[1:].endswith(texts)):
            continue
        # Only where as much is cut off, or left, as some id has characters.
        for cut in sorted(lengths | {len(longer) - length for length in lengths}):
            if not 0 < cut < len(longer):
                continue
            before, after = longer[:cut], longer[cut:]
            if before in ids and after[0] in SEPARATORS and len(after) > 1:
                yield from _keys_that_join(after[0], after[1:], argument_names)
            elif before in ids and ids[longer] == JOINT and after in (JOINT_KEY, *argument_names):
                yield from _keys_that_join("", after, argument_names)
            elif after in ids and before[-1] in SEPARATORS and len(before) > 1:
                yield f"{LEAF_KEY}{before[-1]}{before[:-1]}"


def _keys_of_the_base(users: Sequence[Identity]) -> Iterator[str]:
    """Give the keys under which a base meets what its joint users have under the plain key."""
    joint = [each.user_id for each in users if each.family == JOINT]
    for base in (each.user_id for each in users if each.family == "base"):
        for longer in joint:
            before, found, after = longer.partition(base)
            if found and not before and after != JOINT_KEY and after.endswith(JOINT_KEY):
                yield f"{JOINT_KEY}{after.removesuffix(JOINT_KEY)}{LEAF_KEY}"
            elif found and not after and before != JOINT_KEY and before.startswith(JOINT_KEY):
                yield f"{LEAF_KEY}{before.removeprefix(JOINT_KEY)}{JOINT_KEY}"


def _keys_that_join(joiner: str, inner: str, argument_names: Sequence[str]) -> Iterator[str]:
    yield f"{inner}{joiner}{LEAF_KEY}"
    for name in argument_names:
        # X joined as X:title:K1:title:K2 is what X:title:K1 gives with K2.
        if inner.startswith(f"{name}{joiner}") and len(inner) > len(name) + len(joiner):
            yield f"{inner.removeprefix(f'{name}{joiner}')}{joiner}{name}{joiner}{LEAF_KEY}"


def _ordered(rng: random.Random, found: Sequence[_Unit], always: int) -> list[_Unit]:
    return [*found[:always], *rng.sample(found[always:], len(found[always:]))]


@lru_cache(maxsize=64)
def _table(
    nonce_length: int, word: str, argument_names: tuple[str, ...], dealt: bool
) -> dict[str, list[_Unit]]:
    """Return the units of each family, the most valuable first; no moving boundaries if tenants are dealt."""
    mark = _MARK * nonce_length
    home, base = f"{mark}t", f"{mark}{word}"
    table: dict[str, list[_Unit]] = {}
    if not dealt:
        # The user whose tenant takes the piece needs an id of its own: ids are distinct within a run.
        table[BOUNDARY] = [
            ((home, f"x{joiner}{mark}{letter}"), (f"{home}{joiner}x", f"{mark}{letter}"))
            for joiner, letter in zip((*_JOINERS, *_LONG_JOINERS), ascii_lowercase + digits, strict=False)
        ]
    joiners = [":", *(f":{name}:" for name in argument_names), *_JOINERS[1:7]]
    joiners += [f"&{name}=" for name in argument_names]
    joiners += [*_JOINERS[7:], *_LONG_JOINERS]
    joiners += [f"{joiner}{name}{joiner}" for joiner in _JOINERS[1:3] for name in argument_names]
    endings = [f"{joiner}{JOINT_KEY}" for joiner in joiners]
    endings += [f"{joiner}{name}" for joiner in _JOINERS[:3] for name in argument_names]
    joint = [f"{base}{ending}" for ending in endings]
    joint += [f"{JOINT_KEY}{joiner}{base}" for joiner in _JOINERS[:7]]
    table[JOINT] = [((home, text),) for text in joint]
    for family, unit in units(base, nonce_length):
        table.setdefault(family, []).append(tuple((home, text) for text in unit))
    return table


def _filled(unit: _Unit, nonce: str, family: str) -> list[Identity]:
    mark = _MARK * len(nonce)
    return [Identity(tenant.replace(mark, nonce), user.replace(mark, nonce), family) for tenant, user in unit]


def _look_alike_tenants(nonce: str, tenants: Tenants) -> Sequence[str] | None:
    if not isinstance(tenants, int):
        return tenants
    homes = [f"{nonce}t", f"{nonce}t1", f"{nonce}T", f"{nonce}t:1", f"{nonce}t "][:tenants]
    return homes + [f"{nonce}t{place}" for place in range(2, tenants - len(homes) + 2)]
