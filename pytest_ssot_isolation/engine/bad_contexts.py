"""User contexts that a factory must refuse, made to look as much as they can like a valid one."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final

_ID_FIELDS: Final = ("user_id", "principal", "user", "username", "id", "uid", "subject")


def id_of(context: Any) -> str | None:
    """Return the id by which a context names its user; None where no field known for that holds a string."""
    if isinstance(context, str):
        return context
    for field in _ID_FIELDS:
        value = context.get(field) if isinstance(context, Mapping) else getattr(context, field, None)
        if isinstance(value, str):
            return value
    return None


def malformed(valid: Any) -> list[tuple[str, Any]]:
    """Return contexts that no factory should accept, each with words for it, by the look of a valid one."""
    missing: list[tuple[str, Any]] = [("a missing context (None)", None)]
    if isinstance(valid, str):
        return [
            *missing,
            ("an empty id", ""),
            ("a blank id", "   "),
            ("an id that is a placeholder ('None')", "None"),
            ("a number in place of an id", 0),
        ]
    strangers: list[tuple[str, Any]] = [
        ("an empty string in place of a context", ""),
        ("a bare string in place of a context", "user-0001"),
        ("a number in place of a context", 0),
        ("an empty dict in place of a context", {}),
    ]
    if isinstance(valid, Mapping):
        field = next((name for name in _ID_FIELDS if name in valid), None)
        blank = [
            (f"a context whose {field} is {value!r}", {**valid, field: value})
            for value in (None, "")
            if field
        ]
        return [*missing, *strangers, *blank]
    values = {
        name: getattr(valid, name, None)
        for name in dir(valid)
        if not name.startswith("_") and not callable(getattr(valid, name, None))
    }
    field = next((name for name in _ID_FIELDS if name in values), None)
    look_alikes = [
        (f"a look-alike of a context whose {field} is {value!r}", SimpleNamespace(**{**values, field: value}))
        for value in (None, "", "undefined")
        if field
    ]
    return [*missing, *strangers, *look_alikes]


def failing(valid: Any) -> Any:
    """Return a context of the right type, any reading of which fails."""

    def fail(self: Any, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise RuntimeError("this user's construction fails on purpose")

    kind = type(valid)
    try:
        return object.__new__(
            type(f"Failing{kind.__name__}", (kind,), {"__getattribute__": fail, "__slots__": ()})
        )
    except TypeError:
        return object()
