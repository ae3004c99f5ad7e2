"""Who acts: the one definition of a user's execution context, and the context variable that carries it."""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import EllipsisType, TracebackType
from typing import Any, Final

from pytest_ssot_isolation.errors import InvalidContext, IsolationError, MissingContext

MAX_ID_LENGTH: Final = 255
"""The most characters an id may have; the usual width of such a column."""

PLACEHOLDERS: Final = frozenset({"none", "null", "undefined", "nil"})
"""What a lost value turns into on its way through another language or a template, in lower case."""

CURRENT: ContextVar[UserExecutionContext | None] = ContextVar("pytest_ssot_isolation.current", default=None)
"""The context of the user whose code runs now; None where nobody acts."""

_SHOWN = 60
_find_control: Callable[[str], re.Match[str] | None] = re.compile(r"[\x00-\x1f\x7f-\x9f]").search
_set = object.__setattr__


@dataclass(frozen=True, slots=True, weakref_slot=True, init=False)
class UserExecutionContext:
    """One request of one user.

    Attributes:
        user_id: The principal. There is never a default user.
        tenant_id: The tenant the user belongs to; None in an application without tenants.
        thread_id: The conversation; made fresh when left out.
        run_id: The run within the conversation; made fresh when left out.
        request_id: This request; made fresh when left out.
        roles: What the user may be, in the order given (a set is sorted).
        parent: The context this one is the `child()` of; takes no part in equality, since
            the request's own id already tells the two apart.

    Raises:
        InvalidContext: An id or role is not a string, is empty or blank, has more than 255
            characters or a control character, or is a placeholder such as ``None`` or ``null``.
    """

    user_id: str
    tenant_id: str | None
    thread_id: str
    run_id: str
    request_id: str
    roles: tuple[str, ...]
    parent: UserExecutionContext | None = field(compare=False, repr=False)

    def __init__(
        self,
        user_id: str,
        *,
        tenant_id: str | None = None,
        thread_id: str | EllipsisType = ...,
        run_id: str | EllipsisType = ...,
        request_id: str | EllipsisType = ...,
        roles: Iterable[str] = (),
        parent: UserExecutionContext | None = None,
    ) -> None:
        _require_id("user_id", user_id)
        if tenant_id is not None:
            _require_id("tenant_id", tenant_id)
        # One system call serves all three ids: three of them would cost more than everything else here.
        fresh = os.urandom(36).hex()
        if thread_id is ...:
            thread_id = "thread-" + fresh[:24]
        else:
            _require_id("thread_id", thread_id)
        if run_id is ...:
            run_id = "run-" + fresh[24:48]
        else:
            _require_id("run_id", run_id)
        if request_id is ...:
            request_id = "request-" + fresh[48:]
        else:
            _require_id("request_id", request_id)
        if roles != ():
            roles = _checked_roles(roles)
        if parent is not None and not isinstance(parent, UserExecutionContext):
            raise InvalidContext(
                f"parent must be a UserExecutionContext, not {type(parent).__name__}: {shown(parent)}.\n"
                "To fix this, make the context with `parent.child()`."
            )
        _set(self, "user_id", user_id)
        _set(self, "tenant_id", tenant_id)
        _set(self, "thread_id", thread_id)
        _set(self, "run_id", run_id)
        _set(self, "request_id", request_id)
        _set(self, "roles", roles)
        _set(self, "parent", parent)

    def child(self) -> UserExecutionContext:
        """Return a new request of the same user, thread and run, with this one as its parent."""
        return UserExecutionContext(
            self.user_id,
            tenant_id=self.tenant_id,
            thread_id=self.thread_id,
            run_id=self.run_id,
            roles=self.roles,
            parent=self,
        )

    def bind(self) -> Binding:
        """Return a context manager, for ``with`` and ``async with``, that makes this the current context."""
        return Binding(self)


class Binding:
    """Makes one context current from enter to exit; then whatever was current before is so again."""

    __slots__ = ("_token", "context")

    def __init__(self, context: UserExecutionContext) -> None:
        self.context = context
        self._token: Token[UserExecutionContext | None] | None = None

    def __enter__(self) -> UserExecutionContext:
        if self._token is not None:
            raise IsolationError(
                f"This binding of user {shown(self.context.user_id)} is in use already, maybe elsewhere.\n"
                "To fix this, call `context.bind()` once for each `with`."
            )
        self._token = CURRENT.set(self.context)
        return self.context

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is None:
            return
        try:
            CURRENT.reset(token)
        except ValueError:
            # An async generator may be closed by another task than the one that entered it. That task
            # has this user only where it copied it, and then must not keep it.
            if CURRENT.get() is self.context:
                CURRENT.set(None if token.old_value is Token.MISSING else token.old_value)

    async def __aenter__(self) -> UserExecutionContext:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def current_context() -> UserExecutionContext:
    """Return the context of the user whose code runs now.

    Raises:
        MissingContext: Nobody's code runs now. There is never a default user.
    """
    context = CURRENT.get()
    if context is None:
        raise MissingContext(
            "No user context is current here, and there is never a default user.\n"
            "To fix this, do one of:\n"
            "  - run the code inside `with context.bind():`\n"
            "  - pass the context as an argument to where it is needed\n"
            "  - in a thread of your own, run it with `contextvars.copy_context().run(...)`"
        )
    return context


def problem_with(value: object) -> str | None:
    """Return what makes a value unfit as an id, as the end of a sentence on it; None when it is fit."""
    if not isinstance(value, str):
        return f"must be a string, not {type(value).__name__}"
    if not value:
        return "must not be empty"
    if value.isspace():
        return "must not be blank"
    length = len(value)
    if length > MAX_ID_LENGTH:
        return f"must have at most {MAX_ID_LENGTH} characters, not {length}"
    # Nearly all ids are printable, which is quicker to ask.
    if not value.isprintable() and (control := _find_control(value)):
        return f"must not hold a control character (U+{ord(control[0]):04X} at {control.start()})"
    if value.strip().lower() in PLACEHOLDERS:
        return "must not be a placeholder for a missing value"
    return None


def shown(value: object) -> str:
    """Return a value quoted, and cut to about sixty characters, for an error message."""
    if isinstance(value, str):
        if len(value) <= _SHOWN:
            return repr(value)
        return f"{value[:_SHOWN]!r}... ({len(value)} characters)"
    try:
        text = reprlib.repr(value)
    except Exception:  # A value's own repr may fail; the message about the value must not.
        return f"<{type(value).__name__} that cannot be shown>"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _require_id(name: str, value: Any) -> None:
    if problem := problem_with(value):
        raise InvalidContext(
            f"{name} {problem}: {shown(value)}.\n"
            f"To fix this, pass the {name} that the request came with, and refuse a request without one."
        )


def _checked_roles(roles: Any) -> tuple[str, ...]:
    if isinstance(roles, str) or not isinstance(roles, Iterable):
        raise InvalidContext(
            f"roles must be a collection of strings, not {type(roles).__name__}: {shown(roles)}.\n"
            "To fix this, pass a tuple: roles=('reader',)."
        )
    given = tuple(roles)
    for role in given:
        if problem := problem_with(role):
            raise InvalidContext(
                f"roles {problem}: {shown(role)}.\nTo fix this, pass the names of the user's roles, or none."
            )
    # The order of a set changes from run to run; a context must not.
    return tuple(sorted(given)) if isinstance(roles, (set, frozenset)) else given
