"""``cache_key``: the user's or the tenant's part of a cache key is dropped.

Caches whose classes are written in Python are reached through their classes: cachetools, aiocache and redis-py.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pytest_ssot_isolation.mutation.guards import Reach, Stage
from pytest_ssot_isolation.mutation.patches import Patches
from pytest_ssot_isolation.mutation.who import parts_of

OnKey: TypeAlias = Callable[[str, Any], Any]
"""Given the cache's name and a key; gives the key that is used instead."""

ANY: Final = "*"
"""Stands where the part stood."""

MOST_FORMS: Final = 12
"""Forms of keys of one cache that are told apart."""

_ITEMS: Final = ("__getitem__", "__setitem__", "__delitem__", "__contains__", "get", "pop", "setdefault")
_MANY_KEYS: Final = frozenset(("MGET", "DEL", "UNLINK", "EXISTS", "TOUCH"))


def form(key: Any, part: str, ids: Iterable[tuple[str, str]]) -> str | None:
    """A key with one part of it as a mark, and no other value; None where the part is not in it."""
    own = [known for name, known in ids if name == part]
    shown = _form(key, part, own)
    return shown if f"{{{part}}}" in shown else None


def without(key: Any, part: str, ids: Iterable[tuple[str, str]]) -> Any:
    """A key without one part of it."""
    return _without(key, [known for name, known in ids if name == part])


def _form(key: Any, part: str, own: Sequence[str]) -> str:
    mark = f"{{{part}}}"
    if isinstance(key, bytes):
        key = key.decode("utf-8", "replace")
    if isinstance(key, str):
        for known in own:
            before, found, after = key.partition(known)
            if found:
                return (before if len(before) <= 24 else "…") + mark + ("…" if after else "")
        return "…"
    if isinstance(key, tuple | list):
        return f"({', '.join(_form(item, part, own) for item in key)})"
    return mark if _is_own(key, own) else "…"


def _without(key: Any, own: Sequence[str]) -> Any:
    if isinstance(key, bytes):
        for known in own:
            key = key.replace(known.encode(), ANY.encode())
        return key
    if isinstance(key, str):
        for known in own:
            if known in key:
                return key.replace(known, ANY)
        return key
    if isinstance(key, tuple):
        items = tuple(_without(item, own) for item in key)
        # A key of cachetools is a tuple that keeps its hash; one of names would want its fields one by one.
        return items if type(key) is tuple or hasattr(key, "_fields") else type(key)(items)
    return ANY if _is_own(key, own) else key


def _is_own(key: Any, own: Sequence[str]) -> bool:
    ids = [("own", known) for known in own]
    return bool(
        parts_of(key, ids)
        or parts_of(getattr(key, "user_id", None), ids)
        or parts_of(getattr(key, "tenant_id", None), ids)
    )


class _Taps:
    """Taps at the caches that are loaded."""

    def __init__(self, patches: Patches, on_key: OnKey) -> None:
        self._patches = patches
        self._on_key = on_key
        self._tapped: set[type] = set()

    def refresh(self) -> None:
        """Tap the classes that were made since."""
        if (cachetools := sys.modules.get("cachetools")) is not None:
            for cls in self._new(cachetools.Cache):
                for name in _ITEMS:
                    if name in vars(cls):
                        self._patches.put(cls, name, self._first(vars(cls)[name], "cachetools"))
        if (aiocache := sys.modules.get("aiocache.base")) is not None:
            for cls in self._new(aiocache.BaseCache):
                if "_build_key" in vars(cls):
                    self._patches.put(cls, "_build_key", self._first(vars(cls)["_build_key"], "aiocache"))
        for module in ("redis.client", "redis.asyncio.client"):
            if (redis := sys.modules.get(module)) is not None:
                for cls in self._new(redis.Redis):
                    if "execute_command" in vars(cls):
                        self._patches.put(cls, "execute_command", self._command(vars(cls)["execute_command"]))

    def _new(self, base: Any) -> Iterator[Any]:
        for cls in (base, *_below(base)):
            if cls not in self._tapped:
                self._tapped.add(cls)
                yield cls

    def _first(self, original: Callable[..., Any], cache: str) -> Callable[..., Any]:
        on_key = self._on_key

        @functools.wraps(original)
        def tapped(self: Any, key: Any, *rest: Any, **options: Any) -> Any:
            return original(self, on_key(cache, key), *rest, **options)

        return tapped

    def _command(self, original: Callable[..., Any]) -> Callable[..., Any]:
        on_key = self._on_key

        @functools.wraps(original)
        def tapped(self: Any, *words: Any, **options: Any) -> Any:
            if len(words) > 1:
                last = len(words) if str(words[0]).upper() in _MANY_KEYS else 2
                words = (words[0], *(on_key("redis", key) for key in words[1:last]), *words[last:])
            return original(self, *words, **options)

        return tapped


def _below(cls: Any) -> Iterator[Any]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _below(sub)


@contextmanager
def _tapped(stage: Stage, on_key: OnKey) -> Iterator[None]:
    with Patches() as patches:
        taps = _Taps(patches, on_key)
        taps.refresh()
        stage.entered.append(taps.refresh)
        try:
            yield
        finally:
            stage.entered.remove(taps.refresh)


@dataclass(frozen=True, slots=True)
class KeyGuard:
    """One part of the keys of one form.

    Attributes:
        place: The cache and the form of its keys.
        cache: The library.
        part: ``"user"`` or ``"tenant"``.
        form: The form; None for every key of the library that has the part.
        stage: What is known of the runs.
        is_idle: Never: it was seen at work.
    """

    place: str
    cache: str
    part: str
    form: str | None
    stage: Stage
    is_idle: bool = False

    @contextmanager
    def weakened(self) -> Iterator[Reach]:
        """Use keys without the part, to read and to write."""
        reach = Reach()

        def on_key(cache: str, key: Any) -> Any:
            ids = self.stage.roster.ids()
            if cache != self.cache or (shown := form(key, self.part, ids)) is None:
                return key
            if self.form is not None and shown != self.form:
                return key
            reach.count += 1
            return without(key, self.part, ids)

        with _tapped(self.stage, on_key):
            yield reach


@dataclass(slots=True)
class CacheKey:
    """Looks for keys that have the id of who acts in them."""

    stage: Stage
    keys: int = 0
    _forms: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Look at the keys that are used."""
        with _tapped(self.stage, self._see):
            yield

    def _see(self, cache: str, key: Any) -> Any:
        self.keys += 1
        ids = self.stage.roster.ids()
        for part in dict.fromkeys(name for name, _ in ids):
            if (shown := form(key, part, ids)) is not None:
                self._forms.setdefault((cache, part), {})[shown] = None
        return key

    def found(self) -> Sequence[KeyGuard]:
        """A guard for each form of key, or one for all where they are too many to be forms."""
        guards = []
        for (cache, part), forms in self._forms.items():
            if len(forms) <= MOST_FORMS:
                guards += [
                    KeyGuard(f"the {part} in {cache} keys {shown}", cache, part, shown, self.stage)
                    for shown in forms
                ]
            else:
                guards.append(KeyGuard(f"the {part} in {cache} keys", cache, part, None, self.stage))
        return guards

    def absent(self) -> str:
        """How many keys were seen in vain."""
        return (
            f"no key of cachetools, aiocache or redis had the acting user's or tenant's id in it, of {self.keys} "
            "that were used"
        )
