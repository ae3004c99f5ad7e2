"""What other plugins and conftests add through our hooks: oracles, surfaces and kinds of values, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from pytest_ssot_isolation.errors import BadExtension

if TYPE_CHECKING:
    import pytest

    from pytest_ssot_isolation.model.history import History
    from pytest_ssot_isolation.model.verdict import Judgement
    from pytest_ssot_isolation.surfaces.base import Surface

OURS: Final = frozenset(
    {
        "canary",
        "noninterference",
        "integrity",
        "availability",
        "residue",
        "aliasing",
        "expectation",
        "factory",
    }
)
"""Names that no oracle of another plugin may take."""


class Oracle(Protocol):
    """An oracle of another plugin.

    Attributes:
        name: What ``oracles=`` and findings call it.
    """

    name: str

    def judge(self, history: History) -> Judgement:
        """Say what one history shows."""
        ...


@dataclass(frozen=True, slots=True)
class Extensions:
    """What was added.

    Attributes:
        oracles: By their names.
        surfaces: By their class names.
    """

    oracles: Mapping[str, Oracle] = field(default_factory=dict)
    surfaces: Mapping[str, type[Surface[Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, config: pytest.Config) -> Extensions:
        """Ask the hooks.

        Raises:
            BadExtension: What a hook gave cannot be used.
        """
        oracles: dict[str, Oracle] = {}
        for oracle in _given(config.hook.pytest_ssot_oracles(config=config), "pytest_ssot_oracles"):
            name = getattr(oracle, "name", None)
            if (
                not isinstance(name, str)
                or not name.isidentifier()
                or not callable(getattr(oracle, "judge", None))
            ):
                raise BadExtension(
                    f"pytest_ssot_oracles gave {oracle!r}, which is no oracle.\n"
                    "To fix this, give objects with a name that is an identifier and judge(history) -> Judgement."
                )
            if name in OURS or name in oracles:
                raise BadExtension(
                    f"pytest_ssot_oracles gave a second oracle named {name!r}.\nTo fix this, give it another name."
                )
            oracles[name] = oracle
        surfaces: dict[str, type[Surface[Any]]] = {}
        for surface in _given(config.hook.pytest_ssot_surfaces(config=config), "pytest_ssot_surfaces"):
            if not isinstance(surface, type):
                raise BadExtension(
                    f"pytest_ssot_surfaces gave {surface!r}, which is no class.\n"
                    "To fix this, give subclasses of Surface, not instances."
                )
            if surfaces.setdefault(surface.__name__, surface) is not surface:
                raise BadExtension(
                    f"pytest_ssot_surfaces gave two surfaces named {surface.__name__!r}: {surface.__module__} and "
                    f"{surfaces[surface.__name__].__module__}.\nTo fix this, rename one of the two."
                )
        return cls(oracles, surfaces)

    def surface(self, name: str) -> type[Surface[Any]]:
        """The surface of a name.

        Raises:
            BadExtension: There is none.
        """
        if name in self.surfaces:
            return self.surfaces[name]
        there = ", ".join(map(repr, self.surfaces)) or "none"
        raise BadExtension(
            f"There is no surface named {name!r}; those that plugins offer: {there}.\n"
            "To fix this, pass the class itself, or return it from the hook pytest_ssot_surfaces."
        )


def add_value_kinds(config: pytest.Config) -> None:
    """Ask the hook for kinds of values, try each once, and let ``secrets()`` know them until the run ends.

    Raises:
        BadExtension: What the hook gave cannot be used.
    """
    hook = config.hook.pytest_ssot_value_kinds
    if not hook.get_hookimpls():
        return
    from pytest_ssot_isolation.model.canary import Mint
    from pytest_ssot_isolation.model.value_kinds import ADDED, ValueKind

    config.add_cleanup(ADDED.clear)
    mint = Mint(b"a kind is tried")
    for kind in _given(hook(config=config), "pytest_ssot_value_kinds"):
        if not (isinstance(kind, ValueKind) and kind.name.isidentifier() and callable(kind.make)):
            raise BadExtension(
                f"pytest_ssot_value_kinds gave {kind!r}, which is no kind of value.\n"
                "To fix this, give ValueKind(name, make) with a name that is an identifier and a function of a text."
            )
        try:
            mint.mint(1, 1, kind.name)
        except ValueError:
            ADDED[kind.name] = kind
        else:
            raise BadExtension(
                f"pytest_ssot_value_kinds gave a second kind named {kind.name!r}.\n"
                "To fix this, give it another name."
            )
        try:
            is_found = mint.mint(1, 1, kind.name).occurs_in
            value = mint.mint(1, 1, kind.name).value
        except Exception as error:
            raise BadExtension(
                f"The kind of value {kind.name!r} could not be made: {type(error).__name__}: {error}\n"
                "To fix this, mend its make(secret)."
            ) from error
        if not is_found(value):
            raise BadExtension(
                f"The kind of value {kind.name!r} hides its secret: in {value!r} nobody would find it again.\n"
                "To fix this, let make(secret) keep the secret in one piece."
            )


def _given(results: Iterable[Any], hook: str) -> Iterable[Any]:
    for result in results:
        if isinstance(result, str | bytes) or not isinstance(result, Iterable):
            raise BadExtension(f"{hook} gave {result!r}.\nTo fix this, return a list, also of one.")
        yield from result
