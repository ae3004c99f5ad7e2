"""Every exception of the package, each with what happened, why, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.report import Report


class IsolationError(Exception):
    """The base of everything that this package raises on purpose."""


class SurfaceError(IsolationError):
    """A surface, an operation or a world cannot be used as it was written."""


class Refused(IsolationError):
    """Raised by ``Surface.open`` where the application does not accept such an id; another is drawn."""


class ReplayMismatch(IsolationError):
    """A recorded example did not run as it was recorded."""


class LeakFound(AssertionError, IsolationError):
    """One user saw, changed or disturbed another's things.

    Attributes:
        report: What was found, with the minimal history.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


class InconclusiveCheck(AssertionError, IsolationError):
    """Nothing can be said: the check saw too little for either verdict.

    Attributes:
        report: What ran, and what was missing.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


class InvalidContext(IsolationError, ValueError):
    """A user context was given an id or a role that cannot tell one user from another."""


class MissingContext(IsolationError, ValueError):
    """A user's context was asked for where nobody's code runs."""
