"""An ordinary ``async def`` test as a surface: every user runs it once, all at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from pytest_ssot_isolation.errors import SurfaceError
from pytest_ssot_isolation.surfaces.base import Surface, operation

PERSONAL = ("user_context", "canaries")
"""Arguments that each user has of their own; all others are the shared world."""

OPERATION = "test"


def surface_of(test: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> type[Surface[Any]]:
    """Make a surface with one operation, the test itself.

    Args:
        test: The coroutine function.
        name: Its name.
        arguments: Values of its fixtures; personal ones are replaced by each user's own.
    """
    shared = {argument: value for argument, value in arguments.items() if argument not in PERSONAL}
    personal = [argument for argument in PERSONAL if argument in arguments]

    class Test(Surface[Any]):
        """One user who runs the test."""

        errors_count: ClassVar[bool] = True

        @operation(may_fail=True)
        async def test(self) -> None:
            """Run it with this user's own arguments."""
            own: dict[str, Any] = {}
            if "user_context" in personal:
                own["user_context"] = self.user
            if "canaries" in personal:
                own["canaries"] = OwnCanaries(self)
            await test(**shared, **own)

    Test.__name__ = Test.__qualname__ = name
    return Test


class OwnCanaries:
    """The canaries of one user of a concurrent test, with the face of the ``canaries`` fixture.

    Args:
        surface: The user's session.
    """

    def __init__(self, surface: Surface[Any]) -> None:
        self._surface = surface

    def mint(self, owner: Any = None, kind: Any = str, **shape: Any) -> Any:
        """Return a fresh secret of this user; whoever else sees it has seen too much.

        Args:
            owner: This user's context, or nothing.
            kind: As for ``secrets()``.
            **shape: As for ``secrets()``.

        Raises:
            SurfaceError: The owner is another user.
        """
        if owner is not None and owner is not self._surface.user:
            raise SurfaceError(
                "In a concurrent test each user mints canaries of their own only.\n"
                "To fix this, write canaries.mint() or canaries.mint(user_context)."
            )
        if self._surface._plant is None:
            raise SurfaceError(
                "Canaries can be minted while the test runs only.\nTo fix this, mint them in the test."
            )
        return self._surface._plant(kind, shape)

    def scan(self, seen: object, *, reader: Any = None) -> Sequence[Any]:
        """Return the canaries in what this user saw; with a reader, without the reader's own."""
        found = self._surface._spot(seen) if self._surface._spot is not None else ()
        return tuple(one for one in found if reader is None or one.owner.user_id != reader.user_id)

    def saw(self, value: object, channel: str = "seen") -> None:
        """Take down what this user saw, to be searched for the others' canaries."""
        self._surface.saw(value, channel)


def refuse_dependants(test_name: str, dependants: Mapping[str, Sequence[str]]) -> None:
    """Refuse fixtures that hang on one user: they would be made once, for nobody in particular.

    Args:
        test_name: For the error.
        dependants: Fixtures by the personal fixture that they depend on.

    Raises:
        SurfaceError: There is one.
    """
    for personal, names in dependants.items():
        if names:
            raise SurfaceError(
                f"{test_name} runs once for each user, and its fixture {names[0]!r} depends on {personal!r}, of "
                f"which there is one for each user.\nTo fix this, make {names[0]!r} a factory: let it return a "
                "function that takes the context, and call it in the test with `user_context`."
            )
