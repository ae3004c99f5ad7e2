"""One user's session in one run: opening and closing a surface, and its rights."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_ssot_isolation.errors import Refused, SurfaceError
from pytest_ssot_isolation.surfaces.base import Surface

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.context import UserExecutionContext
    from pytest_ssot_isolation.model.history import History
    from pytest_ssot_isolation.model.program import Operation

CLOSING_PATIENCE = 2.0
"""Seconds that a session may take to close."""

Rights: TypeAlias = tuple[frozenset[tuple[int, int]], frozenset[tuple[int, int]]]
"""Pairs (viewer, owner), and pairs (actor, owner)."""


class Expectation(Exception):
    """A failing ``assert`` in an operation: the author's own expectation, and no observation.

    Attributes:
        error: The assertion.
        call: Id of the call.
        history: What was seen until then; given by the run.
    """

    history: History

    def __init__(self, error: BaseException, call: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.call = call

    @property
    def place(self) -> tuple[str, int]:
        """Kind of the error, and the line on which it was raised: what makes two the same."""
        traceback = self.error.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        return type(self.error).__qualname__, traceback.tb_lineno if traceback is not None else 0


class Session:
    """A surface that was or will be opened.

    Args:
        surface: The instance, its world and user set.
        operations: Its operations by name.
    """

    def __init__(self, surface: Surface[Any], operations: Mapping[str, Operation]) -> None:
        self.surface = surface
        self.operations = operations
        self._closing: Any = None
        self._is_open = False

    @property
    def opens_by_itself(self) -> bool:
        """Whether the surface has nothing to do at sign-in; then it is open, and no task is needed."""
        if getattr(self.surface, "open", None) is None:
            self._is_open = True
            return True
        return False

    @property
    def closes_by_itself(self) -> bool:
        """Whether there is nothing to do at sign-out."""
        if not self._is_open:
            return True
        return self._closing is None and getattr(self.surface, "close", None) is None

    async def open(self) -> object:
        """Sign in; what comes back was seen by the user.

        Raises:
            Refused: The application does not accept the user's id.
            SurfaceError: Anything else went wrong.
        """
        if self.opens_by_itself:
            return None
        try:
            await self.surface._begin()
            given = self.surface.open()  # type: ignore[attr-defined]
            if inspect.isasyncgen(given):
                self._closing = given
                given = await anext(given, None)
            elif inspect.isgenerator(given):
                self._closing = given
                given = next(given, None)
            elif inspect.isawaitable(given):
                given = await given
        except Refused:
            raise
        except Exception as error:
            name = type(self.surface).__qualname__
            raise SurfaceError(
                f"{name}.open() could not sign the user {self.surface.user.user_id!r} in: "
                f"{type(error).__name__}: {error}\n"
                "To fix this, mend open(); where the application does not accept such an id, raise Refused from "
                'it, or ask for plain ones: isolation.check(..., ids="plain").'
            ) from error
        self._is_open = True
        return given

    async def close(self) -> str:
        """Sign out; a failure is told and not raised, since the calls were made all the same."""
        if not self._is_open:
            return ""
        self._is_open = False
        name = type(self.surface).__qualname__
        try:
            async with asyncio.timeout(CLOSING_PATIENCE):
                try:
                    await self._close()
                finally:
                    await self.surface._end()
        except TimeoutError:
            return f"{name}.close() had not ended after {CLOSING_PATIENCE:g} s."
        except Exception as error:
            return f"{name}.close() raised {type(error).__name__}: {error}"
        return ""

    async def _close(self) -> None:
        if inspect.isasyncgen(self._closing):
            await anext(self._closing, None)
            await self._closing.aclose()
        elif self._closing is not None:
            next(self._closing, None)
        closing = getattr(self.surface, "close", None)
        if closing is not None:
            given = closing()
            if inspect.isawaitable(given):
                await given


def is_own_expectation(error: BaseException, surface: Surface[Any]) -> bool:
    """Whether an assertion failed in the surface's own code, and not in the application.

    In an ordinary test that several users run at once, every exception is the test's own.
    """
    if surface.errors_count:
        return isinstance(error, Exception)
    if not isinstance(error, AssertionError):
        return False
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    file = traceback.tb_frame.f_code.co_filename
    for cls in type(surface).__mro__:
        for member in vars(cls).values():
            code = getattr(member, "__code__", None)
            if code is not None and code is traceback.tb_frame.f_code and code.co_filename == file:
                return True
    return False


def rights(
    sessions: Mapping[int, Session], contexts: Sequence[UserExecutionContext], boundary: str
) -> Rights:
    """Who may see, and who may change, what is another's.

    Args:
        sessions: The sessions, by index of the user.
        contexts: The contexts, by index of the user.
        boundary: ``"user"``, or ``"tenant"``: then users of one tenant may see and change all of theirs.

    Returns:
        Pairs (viewer, owner), and pairs (actor, owner).
    """
    sees: set[tuple[int, int]] = set()
    changes: set[tuple[int, int]] = set()
    for index, opened in sessions.items():
        cls = type(opened.surface)
        asks = cls.may_see is not Surface.may_see or cls.may_change is not Surface.may_change
        if not asks and boundary != "tenant":
            continue
        for other, owner in enumerate(contexts):
            if other == index:
                continue
            together = boundary == "tenant" and owner.tenant_id == contexts[index].tenant_id
            if together or (asks and opened.surface.may_see(owner)):
                sees.add((index, other))
            if together or (asks and opened.surface.may_change(owner)):
                changes.add((index, other))
    return frozenset(sees), frozenset(changes)
