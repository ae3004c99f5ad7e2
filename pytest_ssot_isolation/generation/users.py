"""Who takes part, where ids must be plain, numbers or UUIDs; and how users are dealt over tenants.

Like everything that draws here it depends only on its arguments, so that a recorded example meets the
same users again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_ssot_isolation.model.quick import quick

Tenants = int | Sequence[str] | None
"""How many tenants, or their very ids; None: one for all, but for twins whose boundary moves."""

_MOST_INTEGERS = 1 + 10 + 100 + 1000


@quick
@dataclass(frozen=True, slots=True)
class Identity:
    """One user to be.

    Attributes:
        tenant_id: The tenant; holds the nonce as well, unless its id was given.
        user_id: The user; no two identities of one call have the same.
        family: In which way it is a look-alike, for the report; ``base`` and ``plain`` are none.
    """

    tenant_id: str
    user_id: str
    family: str


def plain(nonce: str, count: int, *, tenants: Tenants = None) -> list[Identity]:
    """Return users whose ids nobody confuses: of one length, in lower-case letters and digits."""
    width = len(str(max(count - 1, 0)))
    users = [Identity(f"{nonce}t", f"{nonce}u{place:0{width}}", "plain") for place in range(count)]
    return housed(users, plain_tenants(nonce, tenants))


def integers(rng: random.Random, nonce: str, count: int, *, tenants: Tenants = None) -> list[Identity]:
    """Draw users with whole numbers as ids, one the beginning of another (12 and 123), all below 2**31.

    The nonce, read as a number, gives the first seven digits of each.

    Raises:
        ValueError: More than 1,111 users were asked for.
    """
    if count > _MOST_INTEGERS:
        raise ValueError(
            f"ids='int' has {_MOST_INTEGERS} ids for one nonce, not {count}.\n"
            "To fix this, ask for fewer users."
        )
    stem = str(1_000_000 + int(nonce, 36) % 1_000_000)
    digits = rng.sample("0123456789", 10)
    # Each rung ends in a digit more, so that a small count holds beginnings of one another as well.
    rungs = [[stem]]
    for _ in range(3):
        rungs.append([below + digit for digit in digits for below in rungs[-1]])
    ladder = [stem, *(rung[0] for rung in rungs[1:]), *(text for rung in rungs for text in rung)]
    users = [Identity(stem, text, "beginning of another") for text in list(dict.fromkeys(ladder))[:count]]
    rng.shuffle(users)
    homes = [f"{stem}{place}" for place in range(tenants)] if isinstance(tenants, int) else tenants
    return housed(users, homes)


def uuids(rng: random.Random, nonce: str, count: int, *, tenants: Tenants = None) -> list[Identity]:
    """Draw users with UUIDs (version 4) as ids that differ in few digits; the nonce gives the first eight."""
    stem = f"{int(nonce, 36):08x}"[-8:]
    middle = f"{rng.getrandbits(16):04x}-4{rng.getrandbits(12):03x}-a{rng.getrandbits(12):03x}"
    end = f"{rng.getrandbits(48):012x}"
    home = f"{stem}-{middle}-{end[::-1]}"
    users = [Identity(home, f"{stem}-{middle}-{end}", "base")]
    taken = {users[0].user_id}
    spots = [place for place in range(9, 36) if place not in (13, 14, 18, 19, 23)]
    while len(users) < count:
        source = users[0] if rng.random() < 0.7 else rng.choice(users)
        # The last digit and the first behind the nonce are where a cut or a sum of digits loses most.
        place = rng.choice((35, 9, rng.choice(spots)))
        text = source.user_id[:place] + rng.choice("0123456789abcdef") + source.user_id[place + 1 :]
        if text not in taken:
            taken.add(text)
            users.append(Identity(home, text, "all but one digit"))
    users = users[:count]
    rng.shuffle(users)
    homes = [f"{home[:-3]}{place:03x}" for place in range(tenants)] if isinstance(tenants, int) else tenants
    return housed(users, homes)


def plain_tenants(nonce: str, tenants: Tenants) -> Sequence[str] | None:
    """Return the ids of so many tenants, of one length and each holding the nonce."""
    if not isinstance(tenants, int):
        return tenants
    width = len(str(max(tenants - 1, 0)))
    return [f"{nonce}t{place:0{width}}" for place in range(tenants)]


def housed(users: Sequence[Identity], homes: Sequence[str] | None) -> list[Identity]:
    """Deal users over tenants, so that the first has two of them as soon as there are three users.

    Raises:
        ValueError: There is no tenant to deal them over.
    """
    if homes is None:
        return list(users)
    if isinstance(homes, str) or not homes:
        raise ValueError(
            f"tenants must be a number from 1 or a list of tenant ids, not {homes!r}.\n"
            "To fix this, leave it out."
        )
    first = 1 if len(users) > 2 else 0
    return [
        Identity(homes[max(place - first, 0) % len(homes)], each.user_id, each.family)
        for place, each in enumerate(users)
    ]
