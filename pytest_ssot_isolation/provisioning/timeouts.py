"""How long each thing a database server does may take, by the place the tests run in."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final

from pytest_ssot_isolation.errors import InvalidTimeout


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseTimeoutConfig:
    """The time-outs in force, all in seconds.

    Attributes:
        start: From asking for a server to its first answer.
        pull: For fetching a container image that is not on this machine.
        connect: For one connection.
        statement: For one statement or script that the package itself runs.
        lock: How long a reset waits for a session that holds a lock before that session is ended.
        stop: For a server or a pool to close in good order before it is made to.
    """

    start: float = 15.0
    pull: float = 120.0
    connect: float = 5.0
    statement: float = 30.0
    lock: float = 1.0
    stop: float = 5.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            seconds = getattr(self, field.name)
            if isinstance(seconds, bool) or not isinstance(seconds, int | float):
                raise InvalidTimeout(
                    f"The time-out {field.name!r} is {seconds!r}, which is no number.\n"
                    f"Give it in seconds, such as {field.name}=5.0."
                )
            if not math.isfinite(seconds) or seconds <= 0:
                raise InvalidTimeout(
                    f"The time-out {field.name!r} is {seconds!r}: it has to be a finite number above zero.\n"
                    f"Give it in seconds, such as {field.name}=5.0."
                )

    @classmethod
    def for_environment(cls, environment: str, **seconds: float) -> DatabaseTimeoutConfig:
        """Return the time-outs fit for one place.

        Args:
            environment: ``"local"`` (a developer's machine), ``"ci"`` (slower and shared) or
                ``"container"`` (a cold start with an image to unpack).
            **seconds: Any attribute of the class, to be used instead of the place's own.

        Returns:
            The time-outs, in seconds.

        Raises:
            InvalidTimeout: The place or an attribute is not known, or a time-out is not above zero.
        """
        if environment not in _BY_ENVIRONMENT:
            known = ", ".join(repr(name) for name in _BY_ENVIRONMENT)
            raise InvalidTimeout(f"There are no time-outs for {environment!r}.\nUse one of {known}.")
        names = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(seconds) - set(names)):
            raise InvalidTimeout(
                f"There is no time-out named {unknown[0]!r}.\nUse one of {', '.join(names)}."
            )
        return dataclasses.replace(_BY_ENVIRONMENT[environment], **seconds)


_BY_ENVIRONMENT: Final = {
    "local": DatabaseTimeoutConfig(),
    "ci": DatabaseTimeoutConfig(start=45.0, pull=300.0, connect=15.0, statement=90.0, lock=3.0, stop=15.0),
    # A first start of a container initialises its folder, behind an image that may be unpacked first.
    "container": DatabaseTimeoutConfig(
        start=90.0, pull=600.0, connect=15.0, statement=60.0, lock=2.0, stop=15.0
    ),
}
