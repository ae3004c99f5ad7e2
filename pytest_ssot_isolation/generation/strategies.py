"""What authors write: the arguments of operations, and user contexts for Hypothesis' own ``@given``."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from pytest_ssot_isolation.errors import SurfaceError
from pytest_ssot_isolation.generation.families import FAMILIES, relatives
from pytest_ssot_isolation.model.arguments import Keys, Observed, OtherUser, Secrets
from pytest_ssot_isolation.model.context import UserExecutionContext

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

# One base for all: relatives of two would seldom meet their own.
_BASE: Final = "alice"
_PLAIN: Final = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")
_TENANTS: Final = ("acme", "acme1", "Acme", "acme ", "acme:1", "globex")
_JOINERS: Final = (":", "/", "-", "_", "|", "")


def keys() -> Keys:
    """Draw a name from a small pool shared by all users, with look-alikes, so that users collide on it."""
    return Keys()


def secrets(kind: Any = str, *, to: str | None = None, **shape: Any) -> Secrets:
    """Draw a canary that belongs to the acting user, told again wherever it turns up.

    Args:
        kind: ``str``, ``bytes``, ``int``, ``uuid.UUID``, ``decimal.Decimal``, ``datetime.datetime``,
            ``datetime.date``, ``dict``, ``"email"``, ``"url"`` or ``"phone"``.
        to: Name of the argument, drawn with `other_user`, whose user may see it as well.
        shape: ``max_length=`` characters, ``wrap="Dear {}"``, ``bits=`` 62, 53 or 31, ``digits=`` in all,
            ``places=`` after the point.

    Raises:
        SurfaceError: The kind is unknown, or the shape does not fit it.
    """
    return Secrets(kind, to, tuple(sorted(shape.items())))


def observed(operation: str, path: str | None = None) -> Observed:
    """Draw a value that an earlier call of an operation returned, to this user or to another.

    Args:
        operation: Name of the operation.
        path: Where in its answer the value stands (``items.0.id``); the answer itself by default.

    Raises:
        SurfaceError: Either is not a name or a path.
    """
    return Observed(operation, path)


def other_user() -> OtherUser:
    """Draw the ``user_id`` of another user in the run."""
    return OtherUser()


def hostile_ids() -> SearchStrategy[str]:
    """Return a strategy of user ids of which any two are often look-alikes; it shrinks to a plain one."""
    from hypothesis import strategies as st

    alike: dict[str, list[str]] = {}
    for relative in relatives(_BASE):
        alike.setdefault(relative.family, []).append(relative.text)
    # The family is drawn first: twins of a small one would seldom meet among all.
    odd = st.sampled_from(FAMILIES).flatmap(lambda family: st.sampled_from(alike[family]))
    return st.one_of(st.just(_BASE), odd, odd)


def contexts(
    ids: str | SearchStrategy[str] = "hostile", tenants: int | Sequence[str] | None = None
) -> SearchStrategy[UserExecutionContext]:
    """Return a strategy of user contexts, each with a tenant.

    The same user always has the same context, thread, run and request included, so that a failing example
    is the same when it runs again.

    Args:
        ids: ``hostile``, ``plain``, ``int``, ``uuid``, or a strategy of strings.
        tenants: How many tenants or their ids; look-alikes by default.

    Raises:
        SurfaceError: Either is none of these.
    """
    from hypothesis import strategies as st

    users, homes = _ids(ids), _homes(tenants)
    pairs: SearchStrategy[tuple[str, str]] = st.tuples(st.sampled_from(homes), users)
    if ids == "hostile" and tenants is None:
        # Shorter draws are simpler ones to Hypothesis: the plain pairs must be as short as the odd ones,
        # and stand in one list with them, down which it can step.
        simple = [(homes[0], user) for user in (_BASE, "bob")]
        moving = [pair for j in _JOINERS for pair in ((homes[0], f"x{j}bob"), (f"{homes[0]}{j}x", "bob"))]
        pairs = st.one_of(st.sampled_from(simple * len(_JOINERS) + moving), pairs, pairs)
    return pairs.map(_context)


def context_sequences(
    min_users: int = 2, max_users: int = 5
) -> SearchStrategy[tuple[UserExecutionContext, ...]]:
    """Return a strategy of users with look-alike ids who take turns, each with one context throughout.

    The first to act acts last as well: that is when the traces of the others show.

    Args:
        min_users: The fewest distinct users, from 1.
        max_users: The most distinct users.

    Raises:
        SurfaceError: There would be no user, or fewer than the fewest.
    """
    from hypothesis import strategies as st

    if not 1 <= min_users <= max_users:
        raise SurfaceError(
            f"context_sequences(min_users={min_users!r}, max_users={max_users!r}) holds no number of users.\n"
            "To fix this, let 1 <= min_users <= max_users."
        )

    anybody = contexts()

    @st.composite
    def sequences(draw: DrawFn) -> tuple[UserExecutionContext, ...]:
        users = draw(
            st.lists(anybody, min_size=min_users, max_size=max_users, unique_by=lambda user: user.user_id)
        )
        turns = draw(st.lists(st.sampled_from(users), max_size=4 * len(users)))
        turns += [user for user in users if user not in turns]
        if turns[-1] != turns[0]:
            turns.append(turns[0])
        return tuple(turns)

    return sequences()


def _ids(ids: str | SearchStrategy[str]) -> SearchStrategy[str]:
    from hypothesis import strategies as st

    if isinstance(ids, st.SearchStrategy):
        return ids
    match ids:
        case "hostile":
            return hostile_ids()
        case "plain":
            return st.sampled_from(_PLAIN)
        case "int":
            # Numbers that begin one another meet more often than chance would have it.
            return st.one_of(
                st.sampled_from((1, 12, 123, 10, 100, 2)), st.integers(min_value=1, max_value=2**31 - 1)
            ).map(str)
        case "uuid":
            return st.uuids(version=4).map(str)
    raise SurfaceError(
        f"contexts(ids={ids!r}) is not a kind of ids.\n"
        "To fix this, use 'hostile', 'plain', 'int', 'uuid', or a Hypothesis strategy of strings."
    )


def _homes(tenants: int | Sequence[str] | None) -> Sequence[str]:
    if tenants is None:
        # Most users share a tenant: an application that keeps tenants apart would hide the rest.
        return (_TENANTS[0],) * len(_TENANTS) + _TENANTS
    if isinstance(tenants, int) and not isinstance(tenants, bool) and tenants > 0:
        return [*_TENANTS, *(f"acme{place}" for place in range(2, tenants))][:tenants]
    if isinstance(tenants, Sequence) and not isinstance(tenants, str) and tenants:
        return tenants
    raise SurfaceError(
        f"contexts(tenants={tenants!r}) names no tenants.\n"
        "To fix this, pass a number from 1 or a list of tenant ids, or leave it out."
    )


def _context(pair: tuple[str, str]) -> UserExecutionContext:
    tenant, user = pair
    mark = blake2b(repr(pair).encode(), digest_size=4).hexdigest()
    return UserExecutionContext(
        user, tenant_id=tenant, thread_id=f"thread-{mark}", run_id=f"run-{mark}", request_id=f"request-{mark}"
    )
