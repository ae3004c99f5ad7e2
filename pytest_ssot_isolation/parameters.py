"""Parameters of ``isolation.check``: call beats marker beats class; each is validated once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pytest_ssot_isolation.errors import SurfaceError
from pytest_ssot_isolation.extensions import Extensions
from pytest_ssot_isolation.model.program import Operation
from pytest_ssot_isolation.surfaces.base import Surface, operations_of

if TYPE_CHECKING:
    from pytest_ssot_isolation.oracles.normal import Declarations

BUDGETS: Final[dict[str, tuple[int | None, float]]] = {
    "quick": (100, 2.0),
    "default": (1000, 10.0),
    "deep": (None, 600.0),
}
"""Programs and seconds of one check, whichever end comes first."""

FROM_CLASS: Final = ("users", "ids", "boundary", "tenants")
IDS: Final = ("hostile", "plain", "int", "uuid")
FAULTS: Final = ("cancel", "timeout", "disconnect")
MUTATIONS: Final = ("drop_where", "set_local", "force_rls", "cache_key", "contextvar_reset")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What one check is asked to do, in valid values.

    Attributes:
        surfaces: The classes.
        operations: Their operations.
        declared: Their declarations, taken together.
    """

    surfaces: tuple[type[Surface[Any]], ...]
    operations: Mapping[type[Surface[Any]], Mapping[str, Operation]]
    declared: Declarations
    reset: Callable[[Any], Any] | None = None
    users: int = 3
    calls: int = 24
    examples: int | None = None
    oracles: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    ids: Any = "hostile"
    boundary: str = "user"
    tenants: int | tuple[str, ...] | None = None
    world_scope: str = "example"
    stop_at_first: bool = False
    mutate: tuple[str, ...] = ()
    seed: int | None = None
    replay: str | None = None


def read(
    surface: object,
    marker: Mapping[str, object],
    call: Mapping[str, object],
    extensions: Extensions | None = None,
) -> Parameters:
    """Put the parameters of one check together.

    Args:
        surface: A class, the name of one that a plugin offers, or several of either.
        marker: What the test's marker says.
        call: What the call says.
        extensions: Oracles and surfaces of other plugins.

    Raises:
        SurfaceError: One of them cannot be used.
    """
    from pytest_ssot_isolation.engine.ask import DEFAULT, ORACLES
    from pytest_ssot_isolation.oracles.normal import Declarations

    extensions = extensions if extensions is not None else Extensions()
    given = tuple(surface) if isinstance(surface, list | tuple) else (surface,)
    surfaces: tuple[Any, ...] = tuple(extensions.surface(s) if isinstance(s, str) else s for s in given)
    if not surfaces:
        raise SurfaceError(
            "No surface was given.\nTo fix this, pass a Surface class: isolation.check(Notes, ...)."
        )
    operations = {cls: operations_of(cls) for cls in surfaces}
    values: dict[str, Any] = {"oracles": (*DEFAULT, *extensions.oracles)}
    for cls in reversed(surfaces):
        for name in FROM_CLASS:
            said = getattr(cls, name, None)
            if said is not None and not callable(said):
                values[name] = said
    unknown = sorted(set(marker) - set(Parameters.__dataclass_fields__))
    if unknown:
        raise SurfaceError(
            f"@pytest.mark.isolation knows no {unknown[0]!r}.\n"
            "To fix this, use parameters of isolation.check: users, calls, examples, oracles, faults, ids, "
            "boundary, tenants, world_scope, stop_at_first, mutate, seed."
        )
    values.update(marker)
    values.update(call)
    _whole(values, "users", 2, 1000)
    _whole(values, "calls", 1, 100_000)
    if values.get("examples") is not None:
        _whole(values, "examples", 1, 10**9)
    if values.get("seed") is not None:
        _whole(values, "seed", 0, 2**64)
    values["oracles"] = _names(values, "oracles", (*ORACLES, *extensions.oracles))
    if not values["oracles"]:
        raise SurfaceError(
            "oracles names none, so nobody would judge what was seen.\n"
            f"To fix this, name some of {', '.join(map(repr, ORACLES))}, or leave it out."
        )
    values["faults"] = _names(values, "faults", FAULTS, everything="all")
    values["mutate"] = _names(values, "mutate", MUTATIONS, everything="all")
    _one_of(values, "boundary", ("user", "tenant"))
    _one_of(values, "world_scope", ("example", "check"))
    ids = values.get("ids", "hostile")
    is_strategy = any(base.__name__ == "SearchStrategy" for base in type(ids).__mro__)
    if not is_strategy and ids not in IDS:
        raise SurfaceError(
            f"ids={ids!r} is not a kind of ids.\n"
            f"To fix this, use one of {', '.join(map(repr, IDS))}, or a Hypothesis strategy of strings."
        )
    tenants = values.get("tenants")
    if isinstance(tenants, list | tuple):
        values["tenants"] = tuple(tenants)
    elif tenants is not None:
        _whole(values, "tenants", 1, 1000)
    declared = Declarations(
        opaque=_declared(surfaces, "opaque"),
        ignore=_declared(surfaces, "ignore") + _declared(surfaces, "shared"),
        order_free=_declared(surfaces, "order_free"),
    )
    return Parameters(surfaces=surfaces, operations=operations, declared=declared, **values)


def _declared(surfaces: Sequence[type[Surface[Any]]], name: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for cls in surfaces:
        paths = getattr(cls, name)
        if isinstance(paths, str) or not all(isinstance(path, str) for path in paths):
            raise SurfaceError(
                f"{cls.__qualname__}.{name} = {paths!r} is not a tuple of paths.\n"
                f'To fix this, write {name} = ("path",) with a comma.'
            )
        found.update(dict.fromkeys(paths))
    return tuple(found)


def _whole(values: Mapping[str, Any], name: str, least: int, most: int) -> None:
    value = values.get(name, least)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise SurfaceError(
            f"{name}={value!r} cannot be used.\nTo fix this, give a whole number from {least:,} to {most:,}."
        )


def _one_of(values: Mapping[str, Any], name: str, allowed: Sequence[str]) -> None:
    value = values.get(name, allowed[0])
    if value not in allowed:
        raise SurfaceError(
            f"{name}={value!r} cannot be used.\nTo fix this, give one of {', '.join(map(repr, allowed))}."
        )


def _names(
    values: Mapping[str, Any], name: str, allowed: Sequence[str], everything: str | None = None
) -> tuple[str, ...]:
    given = values.get(name, ())
    listed = (given,) if isinstance(given, str) else tuple(given)
    if everything is not None and everything in listed:
        return tuple(allowed)
    for each in listed:
        if each not in allowed:
            choices = [*allowed, everything] if everything is not None else allowed
            raise SurfaceError(
                f"{name}: {each!r} is not known.\nTo fix this, name some of {', '.join(map(repr, choices))}."
            )
    return tuple(dict.fromkeys(listed))
