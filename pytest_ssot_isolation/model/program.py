"""What each user does: operations, calls, and programs, unordered between users."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from pytest_ssot_isolation.model.arguments import Argument, Observed, OtherUser, Secrets
from pytest_ssot_isolation.model.quick import quick

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Something that one user can do, as the author of the surface declared it.

    Attributes:
        name: The method's name.
        arguments: What each keyword draws.
        weight: How often it is drawn beside the others, from 1.
        publishes: Names of the arguments whose canaries become public.
        may_fail: Whether it may lawfully never succeed.
        needs: Says of a surface whether the call makes sense now.
        is_async: Whether the method is a coroutine function; others run in a worker thread.
    """

    name: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    weight: int = 1
    publishes: frozenset[str] = frozenset()
    may_fail: bool = False
    needs: Callable[[object], bool] | None = None
    is_async: bool = True

    @property
    def plants(self) -> bool:
        """Whether a call plants a canary: such an operation writes."""
        return any(isinstance(spec, Secrets) for spec in self.arguments.values())

    @property
    def follows(self) -> tuple[str, ...]:
        """Operations whose results its calls refer to."""
        return tuple(spec.operation for spec in self.arguments.values() if isinstance(spec, Observed))

    @property
    def addresses(self) -> bool:
        """Whether a call names another user."""
        return any(isinstance(spec, OtherUser) for spec in self.arguments.values())


@quick
@dataclass(frozen=True, slots=True)
class Key:
    """The key at this place of the example's pool."""

    index: int


@quick
@dataclass(frozen=True, slots=True)
class Secret:
    """The caller's own canary with this slot."""

    slot: int


@quick
@dataclass(frozen=True, slots=True)
class Result:
    """What an earlier call returned: by reference, never as a raw value.

    Where that call has not returned yet, the owner's last successful call of the operation
    stands in for it; with none, the call that refers to it is left out.
    """

    owner: int
    operation: str
    call: int


@quick
@dataclass(frozen=True, slots=True)
class Person:
    """The ``user_id`` of another user."""

    user: int


@quick
@dataclass(frozen=True, slots=True)
class Value:
    """The drawn value at this place of the pool of the operation's argument."""

    index: int


Form: TypeAlias = Key | Secret | Result | Person | Value


@quick
@dataclass(frozen=True, slots=True)
class Call:
    """One call of one user.

    Attributes:
        id: Number within the example; stays when other calls are dropped.
        user: Index of the user.
        operation: Name of the operation.
        arguments: Pairs of name and form, in the order of the declaration.
        stage: Calls of a stage begin when those of the one before have ended.
    """

    id: int
    user: int
    operation: str
    arguments: tuple[tuple[str, Form], ...] = ()
    stage: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Calls of several users: ordered within a user, unordered between users.

    Attributes:
        calls: All calls; a user's own calls are in that user's order.
        sequential: Whether the calls run one after another in the order given.
    """

    calls: tuple[Call, ...]
    sequential: bool = False

    @property
    def users(self) -> tuple[int, ...]:
        """The users who act, in the order of their numbers."""
        return tuple(sorted({call.user for call in self.calls}))

    def only(self, users: frozenset[int]) -> Program:
        """The same program without the calls of everyone else."""
        return Program(calls=tuple(c for c in self.calls if c.user in users), sequential=self.sequential)
