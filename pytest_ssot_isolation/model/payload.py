"""The seen form: a plain tree of all that a user's call gave back, which later changes cannot reach."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeAlias
from uuid import UUID

from pytest_ssot_isolation.model.adapters import adapter_of, is_response
from pytest_ssot_isolation.model.paths import leaves as leaves
from pytest_ssot_isolation.model.paths import matches as matches
from pytest_ssot_isolation.model.paths import select as select

Payload: TypeAlias = object
"""None, bool, int, float, str, bytes, Decimal, UUID, dates and times, and dicts and lists of them."""

DEPTH = 32
"""Levels that are copied."""
NODES = 200_000
"""Values that are copied in one answer."""
_OBJECT_DEPTH = 4
_ATTRIBUTES = 64
_TEXT = 20_000
_CYCLE = "<seen above>"
_DEEPER = "<deeper>"
_MORE = "<more>"

_PLAIN = frozenset(
    (type(None), bool, int, float, complex, str, bytes, Decimal, UUID, datetime, date, time, timedelta)
)
# What subclasses of plain values are turned into: an enum's member or a driver's own UUID may carry more.
_BARE: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, bytes.__bytes__),
    (UUID, lambda value: UUID(int=value.int)),
    (Decimal, lambda value: value),
    (datetime, lambda value: value),
    (date, lambda value: value),
)
_OPAQUE = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.CodeType,
    types.FrameType,
)
_ADDRESS = re.compile(r" (?:object )?at 0x[0-9a-fA-F]+")


def as_seen(value: object) -> Payload:
    """Turn whatever a call gave back, or raised, into the seen form.

    Iterators are not consumed, nothing is loaded lazily, cycles and what lies too deep are cut with a
    marker. Never raises: what cannot be read is shown by its type.
    """
    if type(value) in _PLAIN:
        return value
    return _Copy().of(value, 0, 0)


def succeeded(value: object) -> bool:
    """Tell whether an answer, seen form or not, is a success: an exception is none, nor HTTP from 400 on."""
    if isinstance(value, BaseException):
        return False
    if is_response(type(value)):
        return int(value.status_code) < 400  # type: ignore[attr-defined]
    if isinstance(value, dict):
        if "status" in value and "headers" in value and "body" in value:
            status = value["status"]
            return not isinstance(status, int) or status < 400
        error = value.get("error") if len(value) == 1 else None
        return not (isinstance(error, dict) and "type" in error and "text" in error)
    return True


class _Copy:
    """One copy of one answer: what is being copied just now, and how much may still be."""

    __slots__ = ("_left", "_open")

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._left = NODES

    def of(self, value: Any, depth: int, objects: int) -> Payload:
        """Copy one value.

        Args:
            value: Anything.
            depth: Levels above it.
            objects: Objects of no known kind above it.
        """
        kind = type(value)
        if kind in _PLAIN:
            return value
        identity = id(value)
        if identity in self._open:
            return _CYCLE
        if depth >= DEPTH:
            return _DEEPER
        self._open.add(identity)
        try:
            if kind is dict:
                return self._mapping(value, depth, objects)
            if kind is list or kind is tuple:
                return self._list(value, depth, objects)
            return self._other(value, kind, depth, objects)
        except Exception:
            # A lazy proxy, a closed cursor, a property that raises: the rest of the answer still counts.
            return _shown(value)
        finally:
            self._open.discard(identity)

    def _mapping(self, value: Mapping[Any, Any], depth: int, objects: int) -> Payload:
        copy: dict[str, Payload] = {}
        for key, inner in list(value.items()):
            self._left -= 1
            if self._left < 0:
                copy[_MORE] = _MORE
                break
            name = key if type(key) is str else _key(key)
            if name in copy:
                name = f"{name} ({type(key).__name__})"
            copy[name] = inner if type(inner) in _PLAIN else self.of(inner, depth + 1, objects)
        return copy

    def _list(self, value: Any, depth: int, objects: int) -> list[Payload]:
        copy: list[Payload] = []
        for inner in list(value):
            self._left -= 1
            if self._left < 0:
                copy.append(_MORE)
                break
            copy.append(inner if type(inner) in _PLAIN else self.of(inner, depth + 1, objects))
        return copy

    def _other(self, value: Any, kind: Any, depth: int, objects: int) -> Payload:
        if issubclass(kind, BaseException):
            return {"error": self._error(value, depth, objects)}
        adapter = adapter_of(kind)
        if adapter is not None:
            return self.of(adapter(value), depth, objects)
        if issubclass(kind, Enum):
            return self.of(value.value, depth, objects)
        for plain, bare in _BARE:
            if issubclass(kind, plain):
                return bare(value)
        if issubclass(kind, (bytearray, memoryview)):
            return bytes(value)
        if issubclass(kind, PurePath):
            return str(value)
        if issubclass(kind, (set, frozenset)):
            return sorted(self._list(value, depth, objects), key=_order)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._mapping(dict(zip(kind._fields, value, strict=False)), depth, objects)
        if issubclass(kind, (list, tuple)):
            return self._list(value, depth, objects)
        if issubclass(kind, Mapping):
            return self._mapping(value, depth, objects)
        if dataclasses.is_dataclass(kind):
            names = [field.name for field in dataclasses.fields(kind)]
            return self._mapping({n: getattr(value, n) for n in names if hasattr(value, n)}, depth, objects)
        if hasattr(kind, "__next__") or hasattr(kind, "__anext__") or hasattr(kind, "__await__"):
            return f"<{kind.__name__}>"
        if issubclass(kind, _OPAQUE):
            return _shown(value)
        return self._object(value, kind, depth, objects)

    def _object(self, value: Any, kind: type, depth: int, objects: int) -> Payload:
        held = {name: inner for name, inner in getattr(value, "__dict__", {}).items() if name[:1] != "_"}
        for base in kind.__mro__:
            for name, member in vars(base).items() if "__slots__" in vars(base) else ():
                if type(member) is types.MemberDescriptorType and name[:1] != "_" and hasattr(value, name):
                    held[name] = getattr(value, name)
        if not held or len(held) > _ATTRIBUTES or objects >= _OBJECT_DEPTH:
            return _shown(value)
        return self._mapping(held, depth, objects + 1)

    def _error(self, error: BaseException, depth: int, objects: int) -> dict[str, Payload]:
        text = _printed(error)
        seen: dict[str, Payload] = {"type": type(error).__qualname__, "text": text}
        if error.args and error.args != (text,) and not isinstance(error, BaseExceptionGroup):
            seen["args"] = self.of(error.args, depth + 1, objects)
        held = {name: inner for name, inner in vars(error).items() if name[:1] != "_"}
        if held:
            seen["attributes"] = self.of(held, depth + 1, objects + 1)
        if notes := getattr(error, "__notes__", None):
            seen["notes"] = self.of(notes, depth + 1, objects)
        # A context hidden by `from None` reaches nobody: no traceback shows it.
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None:
            seen["cause"] = self._inner(cause, depth, objects)
        if isinstance(error, BaseExceptionGroup):
            seen["group"] = [self._inner(inner, depth, objects) for inner in error.exceptions]
        return seen

    def _inner(self, error: BaseException, depth: int, objects: int) -> Payload:
        seen = self.of(error, depth + 1, objects)
        return seen["error"] if isinstance(seen, dict) and "error" in seen else seen


def _key(key: object) -> str:
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    if isinstance(key, Enum):
        return _key(key.value)
    if isinstance(key, str):
        return str.__str__(key)
    if type(key) in _PLAIN:
        return str(key) if not isinstance(key, int) or key.bit_length() < 10_000 else hex(key)
    if isinstance(key, tuple):
        return f"({', '.join(_key(part) for part in key)})"
    return _shown(key)


def _order(seen: object) -> tuple[str, str]:
    return type(seen).__name__, _shown(seen)


def _printed(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} without a text>"


def _shown(value: object) -> str:
    try:
        return _ADDRESS.sub("", repr(value))[:_TEXT]
    except Exception:
        return f"<{type(value).__name__}>"
