"""What an operation declares of its arguments: frozen specs that the generator draws from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pytest_ssot_isolation.errors import InvalidSecret, SurfaceError

SHAPES: Final = ("max_length", "wrap", "bits", "digits", "places")
"""What may be said of a secret beside its kind."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A name from a small pool that all users share."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """A canary owned by the acting user.

    Attributes:
        kind: A type or the name of one, as the canaries know it.
        to: Name of the argument that says for whom it is lawful as well, or None.
        shape: Pairs of name and value, sorted by name; names out of `SHAPES`.
    """

    kind: Any = str
    to: str | None = None
    shape: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.to is not None and not (isinstance(self.to, str) and self.to.isidentifier()):
            raise SurfaceError(
                f"secrets(to={self.to!r}) does not name an argument.\n"
                "To fix this, pass the name of the argument that is drawn with other_user(): to='to_user'."
            )
        unknown = [name for name, _ in self.shape if name not in SHAPES]
        if unknown:
            raise SurfaceError(
                f"secrets() knows no {unknown[0]!r}.\nTo fix this, use some of {', '.join(SHAPES)}, or none."
            )
        # Asked now, so that the error stands where the surface is written and not where it runs.
        from pytest_ssot_isolation.model.canary import Shape

        try:
            Shape.of(self.kind, **dict(self.shape))
        except InvalidSecret as error:
            raise SurfaceError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Observed:
    """By reference, a value that an earlier call of an operation returned to somebody.

    Attributes:
        operation: Name of that operation.
        path: Where in its answer the value stands (``items.0.id``); None for the answer itself.
    """

    operation: str
    path: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.operation, str) and self.operation.isidentifier()):
            raise SurfaceError(
                f"observed({self.operation!r}) does not name an operation.\n"
                "To fix this, pass the name of a method decorated with @operation: observed('write')."
            )
        if self.path is not None and not (isinstance(self.path, str) and all(self.path.split("."))):
            raise SurfaceError(
                f"observed({self.operation!r}, path={self.path!r}): this is not a path.\n"
                "To fix this, join names and places with dots: path='items.0.id', or leave it out."
            )


@dataclass(frozen=True, slots=True)
class OtherUser:
    """The ``user_id`` of another user in the run."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A value from a Hypothesis strategy of the author's own.

    Attributes:
        strategy: The strategy.
    """

    strategy: Any


Argument = Keys | Secrets | Observed | OtherUser | Drawn
"""What one keyword of ``@operation`` draws."""
