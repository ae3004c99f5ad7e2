"""Aliasing: one mutable object that two users can reach. A pure function over object graphs."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import dataclasses
import datetime
import decimal
import enum
import functools
import gc
import itertools
import logging
import pathlib
import re
import threading
import types
import uuid
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence

MOST_OBJECTS: Final = 200_000
"""The most objects that one comparison walks over, all users together."""

_ATOMIC: Final = frozenset(
    {
        str,
        bytes,
        int,
        float,
        complex,
        bool,
        type(None),
        type(...),
        type(NotImplemented),
        range,
        slice,
        re.Pattern,
    }
    | {uuid.UUID, datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone}
    | {decimal.Decimal}
)

# The program itself, and what the interpreter keeps for everybody: from here every user reaches every other.
_OTHER_END: Final = "pytest_ssot_isolation.surfaces."
_PROGRAM: Final = (
    types.ModuleType,
    type,
    types.BuiltinFunctionType,
    types.CodeType,
    types.FrameType,
    types.TracebackType,
    types.CoroutineType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    logging.Logger,
    logging.Handler,
    logging.Manager,
    property,
    staticmethod,
    classmethod,
    enum.Enum,
    weakref.ref,
    pathlib.PurePath,
    asyncio.AbstractEventLoop,
    asyncio.Future,
    threading.Thread,
    contextvars.ContextVar,
    contextvars.Context,
)

_CONTAINERS: Final = (dict, list, set, bytearray, collections.deque)

# A lock that two users share makes one of them wait; it shows neither what the other has. A queue does.
_LOCKS: Final = (
    asyncio.Lock,
    asyncio.Event,
    asyncio.Condition,
    asyncio.Semaphore,
    threading.Event,
    threading.Condition,
    threading.Semaphore,
    type(threading.Lock()),
    type(threading.RLock()),
)

_WRAPPERS: Final = (
    tuple,
    frozenset,
    types.MappingProxyType,
    types.CellType,
    functools.partial,
    types.MethodType,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """One mutable object that several users reach.

    Attributes:
        holders: Indices of the roots that reach it, in order.
        kind: Name of its type.
        paths: For each holder, the way from the root, such as ``Agent.memory['notes']``.
        target: The object itself.
    """

    holders: tuple[int, ...]
    kind: str
    paths: tuple[str, ...]
    target: object = dataclasses.field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What several object graphs have in common.

    Attributes:
        shared: The mutable objects in common; of a whole shared part only the top.
        walked: Objects that were looked at, all roots together.
        is_capped: Whether the walk stopped at its limit, so that there may be more.
        words: For each root, the watched strings that it reaches.
    """

    shared: tuple[Shared, ...]
    walked: int
    is_capped: bool
    words: tuple[frozenset[str], ...] = ()


class Baseline:
    """What users may have in common: all that some objects reach now.

    It keeps the objects alive, so that none of their ids can be given to a new object.
    """

    __slots__ = ("_kept",)

    def __init__(self, roots: Iterable[object] = (), *, limit: int = MOST_OBJECTS) -> None:
        graph = _Graph(baseline=())
        for root in roots:
            graph.walk(root, limit)
            limit -= len(graph.parents)
            if limit <= 0:
                break
        self._kept = graph.objects

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)


def shared_objects(
    a: object,
    b: object,
    baseline: Container[int] = (),
    *,
    allow: tuple[type, ...] = (),
    limit: int = MOST_OBJECTS,
) -> Overlap:
    """Find the mutable objects that two users both reach.

    Args:
        a: What the first user holds.
        b: What the second user holds.
        baseline: Ids of objects that may be shared, such as a `Baseline` of the world; the
            walk does not go through them.
        allow: Types whose instances may be shared; the walk does not go through them either.
        limit: The most objects to look at, both users together.

    Returns:
        The shared objects, the top of each shared part only.
    """
    return shared_among((a, b), baseline, allow=allow, limit=limit)


def shared_among(
    roots: Sequence[object],
    baseline: Container[int] = (),
    *,
    allow: tuple[type, ...] = (),
    limit: int = MOST_OBJECTS,
    watch: Collection[str] = (),
) -> Overlap:
    """Find the mutable objects that at least two of several users reach.

    Args:
        roots: What each user holds.
        baseline: Ids of objects that may be shared; the walk does not go through them.
        allow: Types whose instances may be shared; the walk does not go through them either.
        limit: The most objects to look at, dealt evenly over the users.
        watch: Strings to look out for, such as the users' ids.

    Returns:
        The shared objects, the top of each shared part only.
    """
    words = frozenset(watch)
    each = max(1, limit // max(1, len(roots)))
    graphs = []
    owners: dict[int, list[int]] = {}
    for index, root in enumerate(roots):
        graph = _Graph(baseline=baseline, allow=allow, watch=words)
        graph.walk(root, each)
        graphs.append(graph)
        for key in graph.objects:
            owners.setdefault(key, []).append(index)
    common = {
        key: holders
        for key, holders in owners.items()
        if len(holders) > 1 and is_mutable(graphs[holders[0]].objects[key])
    }
    found = []
    for key, holders in common.items():
        first = graphs[holders[0]]
        if any(parent in common and len(common[parent]) >= len(holders) for parent in first.ancestors(key)):
            continue
        target = first.objects[key]
        found.append(
            Shared(
                holders=tuple(holders),
                kind=type(target).__name__,
                paths=tuple(graphs[holder].path_to(key) for holder in holders),
                target=target,
            )
        )
    return Overlap(
        shared=tuple(found),
        walked=sum(len(graph.objects) for graph in graphs),
        is_capped=any(graph.is_capped for graph in graphs),
        words=tuple(frozenset(graph.words) for graph in graphs),
    )


def reachable(root: object, *, limit: int = MOST_OBJECTS) -> list[object]:
    """Return all that an object reaches, itself first, up to a limit."""
    graph = _Graph(baseline=())
    graph.walk(root, limit)
    return list(graph.objects.values())


def is_mutable(value: object) -> bool:
    """Say whether one user could change this object under another's eyes."""
    if isinstance(value, _CONTAINERS):
        return True
    if isinstance(value, (types.GeneratorType, types.AsyncGeneratorType)):
        return True
    kind = type(value)
    if isinstance(value, _WRAPPERS + _LOCKS) or kind in (types.FunctionType, functools.partialmethod):
        return False
    if dataclasses.is_dataclass(value) and kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return False
    configuration = getattr(kind, "model_config", None)
    if isinstance(configuration, dict) and configuration.get("frozen"):
        return False
    if hasattr(value, "__dict__") or any(base.__dict__.get("__slots__") for base in kind.__mro__):
        return True
    try:
        return not memoryview(value).readonly  # type: ignore[arg-type]
    except TypeError:
        return False


class _Graph:
    """What one root reaches, and how it was reached."""

    __slots__ = ("_allow", "_baseline", "_watch", "is_capped", "objects", "parents", "words")

    def __init__(
        self, *, baseline: Container[int], allow: tuple[type, ...] = (), watch: frozenset[str] = frozenset()
    ) -> None:
        self._baseline = baseline
        self._allow = allow
        self._watch = watch
        self.objects: dict[int, object] = {}
        self.parents: dict[int, int | None] = {}
        self.words: set[str] = set()
        self.is_capped = False

    def walk(self, root: object, limit: int) -> None:
        objects, parents, watch, baseline = self.objects, self.parents, self._watch, self._baseline
        skipped = _PROGRAM + self._allow
        queue: collections.deque[tuple[object, int | None]] = collections.deque([(root, None)])
        while queue:
            value, parent = queue.popleft()
            key = id(value)
            if key in objects or key in baseline or isinstance(value, skipped):
                continue
            # An application that holds somebody's socket in this process reaches the other end of it in no other.
            if parent is not None and type(value).__module__.startswith(_OTHER_END):
                continue
            if len(objects) >= limit:
                self.is_capped = True
                return
            objects[key] = value
            parents[key] = parent
            for child in _children(value):
                kind = type(child)
                if kind not in _ATOMIC:
                    queue.append((child, key))
                elif watch and kind is str and child in watch:
                    self.words.add(child)

    def ancestors(self, key: int) -> Iterator[int]:
        parent = self.parents[key]
        while parent is not None:
            yield parent
            parent = self.parents[parent]

    def path_to(self, key: int) -> str:
        chain = [key, *self.ancestors(key)]
        chain.reverse()
        text = type(self.objects[chain[0]]).__name__
        for place, (parent, child) in enumerate(itertools.pairwise(chain)):
            holder = self.objects[chain[place - 1]] if place else None
            text += _step(self.objects[parent], self.objects[child], holder)
        return text


def _children(value: object) -> Iterable[object]:
    if isinstance(value, types.MethodType):
        return (value.__self__, value.__func__)
    if isinstance(value, types.FunctionType):
        # Only a function made for one user carries something of that user; `__globals__` is the program.
        if "<locals>" not in value.__qualname__:
            return ()
        return (value.__closure__ or (), value.__defaults__ or (), value.__kwdefaults__ or {})
    if isinstance(value, (types.GeneratorType, types.AsyncGeneratorType)):
        return ()
    return gc.get_referents(value)


def _step(parent: object, child: object, holder: object) -> str:
    """The way from an object to one that it refers to, as a person would write it."""
    if isinstance(parent, dict):
        is_namespace = getattr(holder, "__dict__", None) is parent
        for key, value in parent.items():
            if value is child:
                if is_namespace:
                    return f".{key}"
                return f"[{key!r}]" if _is_plain(key) else f"[{type(key).__name__}]"
    if isinstance(parent, (list, tuple, collections.deque)):
        for index, value in enumerate(parent):
            if value is child:
                # Arguments of a closure arrive in a nameless tuple of cells: its place tells nobody anything.
                return "" if isinstance(child, types.CellType) else f"[{index}]"
    for name, value in _attributes(parent):
        if value is child:
            return f".{name}"
    if isinstance(parent, types.MethodType):
        return ".__self__" if parent.__self__ is child else ".__func__"
    if isinstance(parent, types.FunctionType) and isinstance(child, tuple):
        return "()"
    # A dictionary of attributes, or a cell: what stands behind it is named by the next step.
    if isinstance(parent, types.CellType) or isinstance(child, dict):
        return ""
    return f" -> {type(child).__name__}"


def _attributes(value: object) -> Iterator[tuple[str, Any]]:
    own: Mapping[str, Any] = getattr(value, "__dict__", {})
    yield from own.items()
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{base.__name__.lstrip('_')}{name}"
            descriptor = base.__dict__.get(name)
            if isinstance(descriptor, types.MemberDescriptorType):
                try:
                    yield name, descriptor.__get__(value)
                except AttributeError:
                    continue


def _is_plain(key: object) -> bool:
    return isinstance(key, (str, int, float, bool, type(None)))
