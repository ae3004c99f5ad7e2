"""Checks a factory that makes one instance for each user context."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pytest_ssot_isolation.engine.bad_contexts import failing, id_of, malformed
from pytest_ssot_isolation.engine.construction import Builder, Failed
from pytest_ssot_isolation.engine.holders import held_by
from pytest_ssot_isolation.errors import SurfaceError
from pytest_ssot_isolation.model.context import UserExecutionContext, shown
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Finding, Verdict

if TYPE_CHECKING:
    from pytest_ssot_isolation.oracles.aliasing import Overlap

CROWD: Final = 1_000
"""How many contexts ask for an instance at once in the largest step."""

_ORACLES: Final = ("distinct", "aliasing", "refusal", "availability", "residue")
_PATIENCE = (
    20.0  # Seconds that the crowd may take by the pace of the first users; past it the step is left out.
)
_TOLD = 5  # Users named in one finding; with more, how many there are.

Contexts = Sequence[Any] | Callable[[int], Any] | None


def check_factory(
    factory: Callable[[Any], Any],
    *,
    contexts: Contexts = None,
    shares: Iterable[object] = (),
    users: int = 20,
) -> Report:
    """Call a factory once for each user context, and say whether its instances keep users apart.

    Args:
        factory: Takes a user context and returns an instance; ``def`` or ``async def``.
        contexts: Valid contexts, or a function from a number (0 and up) to one; a fresh
            `UserExecutionContext` for each user when left out.
        shares: Objects and types that instances may have in common, such as a pool; nothing
            behind them is looked at.
        users: How many contexts are used, 2 and up; 1,000 are tried at once besides.

    Returns:
        The report. Each finding is a leak: an instance given to two users, a mutable object
        in two instances, a missing or malformed context not refused with `ValueError`, a
        user harmed by another's failing construction, an instance kept after it was dropped.

    Raises:
        SurfaceError: The factory cannot be used as given, or the call came from a running
            event loop (``await check_factory_async(...)`` serves there).
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise SurfaceError(
            "check_factory was called in a running event loop, and runs the factory in a loop of its own.\n"
            "To fix this, write `await isolation.check_factory_async(...)`, or make the test a plain `def`."
        )
    check = _Check(factory, contexts=contexts, shares=tuple(shares), users=users)
    return asyncio.run(check.run())


async def check_factory_async(
    factory: Callable[[Any], Any],
    *,
    contexts: Contexts = None,
    shares: Iterable[object] = (),
    users: int = 20,
) -> Report:
    """Do what `check_factory` does, from a running event loop: in a loop of its own, in a worker thread."""
    return await asyncio.to_thread(check_factory, factory, contexts=contexts, shares=shares, users=users)


class _Check:
    """One run over one factory: it builds, looks, and writes down what it finds."""

    def __init__(
        self, factory: Callable[[Any], Any], *, contexts: Contexts, shares: tuple[object, ...], users: int
    ) -> None:
        if not callable(factory):
            raise SurfaceError(
                f"A factory must be callable with one user context, and {shown(factory)} is not.\n"
                "To fix this, pass the function itself: isolation.check_factory(make_agent)."
            )
        if users < 2:
            raise SurfaceError(
                f"users must be 2 or more, not {users}: one user alone has nobody to be kept apart from."
            )
        self._builder = Builder(factory)
        self._given = contexts
        self._users = users
        if isinstance(contexts, Sequence):
            if len(contexts) < 2:
                raise SurfaceError(
                    f"contexts has {len(contexts)} of them; two users are needed at least.\n"
                    "To fix this, pass more, or leave it out and take `UserExecutionContext`s."
                )
            self._users = min(users, len(contexts))
        self._allowed_types = tuple(kind for kind in shares if isinstance(kind, type))
        self._allowed = tuple(share for share in shares if not isinstance(share, type))
        self._name = self._builder.name
        self._findings: list[Finding] = []
        self._notes: list[str] = []

    async def run(self) -> Report:
        started = time.perf_counter()
        contexts = self._contexts(self._users)
        first = await self._builder.build_one(contexts[0])
        if reason := _unusable(first):
            return self._report(started, reason=f"{self._name} {reason}")
        growing = _class_level_containers(first)
        del first
        paced = time.perf_counter()
        built = [await self._builder.build_one(context) for context in contexts]
        pace = (time.perf_counter() - paced) / len(contexts)
        self._look_for_failures(contexts, built, "one after another")
        self._look_for_doubles(contexts, built)
        self._look_for_aliasing(contexts, built)
        self._look_for_growth(growing, len(built))
        del built, growing
        await self._look_for_refusals(contexts[0])
        await self._look_for_harm(contexts)
        await self._look_for_residue(contexts[-1])
        await self._crowd(pace)
        return self._report(started)

    def _report(self, started: float, reason: str = "") -> Report:
        verdict = Verdict.LEAK if self._findings else Verdict.INCONCLUSIVE if reason else Verdict.CLEAN
        if not self._builder.uses_threads and not self._builder.is_async:
            self._notes.append("the factory needs a running event loop, so it was not called from threads")
        return Report(
            verdict=verdict,
            findings=tuple(self._findings),
            subject=f"factory {self._name}",
            examples=1,
            calls=self._builder.calls,
            seconds=time.perf_counter() - started,
            reasons=(reason,) if reason else (),
            notes=tuple(self._notes),
            oracles=_ORACLES,
        )

    def _contexts(self, count: int) -> list[Any]:
        if self._given is None:
            return [
                UserExecutionContext(f"user-{index:04}", tenant_id=f"tenant-{index:04}")
                for index in range(count)
            ]
        if callable(self._given):
            return [self._given(index) for index in range(count)]
        return list(self._given[:count])

    # Looking

    def _found(self, oracle: str, channel: str, explanation: str, **more: Any) -> None:
        self._findings.append(
            Finding(oracle=oracle, operation=self._name, channel=channel, explanation=explanation, **more)
        )

    def _look_for_failures(self, contexts: Sequence[Any], built: Sequence[Any], how: str) -> None:
        failed = [index for index, one in enumerate(built) if isinstance(one, Failed)]
        if failed:
            named = _named(contexts, failed)
            self._found(
                "availability",
                "error",
                f"{self._name} failed for {named}, whose context is valid, when {len(built)} were made "
                f"{how}: {built[failed[0]].error}",
                victim=_name(contexts[failed[0]]),
            )

    def _look_for_doubles(self, contexts: Sequence[Any], built: Sequence[Any]) -> bool:
        owners: dict[int, list[int]] = {}
        for index, one in enumerate(built):
            if not isinstance(one, Failed):
                owners.setdefault(id(one), []).append(index)
        doubles = [indices for indices in owners.values() if len(indices) > 1]
        for indices in doubles[:1]:
            one = built[indices[0]]
            self._found(
                "distinct",
                "result",
                f"{self._name} gave one and the same {type(one).__name__} to {_named(contexts, indices)}",
                victim=_name(contexts[indices[0]]),
                offender=_name(contexts[indices[1]]),
                path=type(one).__name__,
            )
        return bool(doubles)

    def _look_for_aliasing(self, contexts: Sequence[Any], built: Sequence[Any]) -> None:
        if len({id(one) for one in built}) < len(built):
            return  # One instance for several users says it all; each of its parts would say it again.
        from pytest_ssot_isolation.oracles import aliasing

        words = _ids_of(contexts)
        overlap = aliasing.shared_among(
            built,
            {id(share) for share in self._allowed},
            allow=(*self._allowed_types, Failed),
            watch=frozenset(words.values()),
        )
        for shared in overlap.shared:
            first, second = shared.holders[:2]
            self._found(
                "aliasing",
                "result",
                f"{_named(contexts, shared.holders)} share one {shared.kind}: {shared.paths[0]}"
                + (f" is {shared.paths[1]}" if shared.paths[1] != shared.paths[0] else ""),
                victim=_name(contexts[first]),
                offender=_name(contexts[second]),
                path=shared.paths[0],
            )
        self._look_for_strangers(contexts, words, overlap)
        if overlap.is_capped:
            self._notes.append(
                f"the search for shared objects ended after {overlap.walked} objects; "
                "name what is large in shares="
            )

    def _look_for_strangers(
        self, contexts: Sequence[Any], words: Mapping[int, str], overlap: Overlap
    ) -> None:
        owner = {word: index for index, word in words.items()}
        for index, reached in enumerate(overlap.words):
            strange = sorted(reached - {words.get(index, "")})
            if strange:
                self._found(
                    "aliasing",
                    "result",
                    f"the instance made for {_name(contexts[index])} holds the id of {_named_words(strange)}",
                    victim=_name(contexts[owner[strange[0]]]),
                    offender=_name(contexts[index]),
                    path="id",
                )
                return

    def _look_for_growth(self, before: Mapping[tuple[type, str], int], made: int) -> None:
        for (kind, name), size in before.items():
            now = len(kind.__dict__.get(name, ()))
            if now > size:
                self._found(
                    "aliasing",
                    "class",
                    f"{kind.__qualname__}.{name} belongs to the class, hence to every user, and grew from "
                    f"{size} to {now} while {made} users' instances were made",
                    path=f"{kind.__qualname__}.{name}",
                )

    async def _look_for_refusals(self, valid: Any) -> None:
        for words, context in malformed(valid):
            built = await self._builder.build_raw(context)
            if isinstance(built, ValueError):
                continue
            if isinstance(built, BaseException):
                explanation = (
                    f"{self._name} answered {words} with {type(built).__name__} ({str(built)[:120]}), "
                    "where a ValueError is promised"
                )
            else:
                explanation = (
                    f"{self._name} made an instance of {type(built).__name__} for {words}, "
                    "and raised no ValueError"
                )
            self._found("refusal", "error", explanation, path=words)

    async def _look_for_harm(self, contexts: Sequence[Any]) -> None:
        """Let some constructions fail amid the others, at once; only they may notice."""
        broken = [None, failing(contexts[0]), *(context for _, context in malformed(contexts[0])[1:3])]
        middle = len(contexts) // 2
        mixed = [*contexts[:middle], *broken, *contexts[middle:]]
        built = await self._builder.build_at_once(mixed)
        sound = built[:middle] + built[middle + len(broken) :]
        failed = [index for index, one in enumerate(sound) if isinstance(one, Failed)]
        if failed:
            self._found(
                "availability",
                "error",
                f"{self._name} failed for {_named(contexts, failed)} while the constructions of "
                f"{len(broken)} others failed: {sound[failed[0]].error}",
                victim=_name(contexts[failed[0]]),
                fault="a failing construction",
            )
        if not any(finding.oracle == "distinct" for finding in self._findings):
            self._look_for_doubles(contexts, sound)
        again = await self._builder.build_one(contexts[0])
        if isinstance(again, Failed) and not failed:
            self._found(
                "availability",
                "error",
                f"after failing constructions {self._name} fails for {_name(contexts[0])} as well: "
                f"{again.error}",
                victim=_name(contexts[0]),
                fault="a failing construction",
            )

    async def _look_for_residue(self, context: Any) -> None:
        built = await self._builder.build_one(context)
        try:
            alive = weakref.ref(built)
        except TypeError:
            self._notes.append(
                f"a {type(built).__name__} takes no weak reference, so nothing is said on whether it is freed"
            )
            return
        kind = type(built).__name__
        del built
        await _settle()
        if (kept := alive()) is not None:
            holder = held_by(kept)
            del kept
            self._found(
                "residue",
                "memory",
                f"the {kind} made for {_name(context)} is not freed when it is dropped: {holder} keeps it",
                victim=_name(context),
                path=holder.partition("[")[0],
            )

    async def _crowd(self, pace: float) -> None:
        contexts = self._contexts(CROWD)
        if len(contexts) < CROWD:
            self._notes.append(f"{len(contexts)} contexts were given, so no {CROWD:,} could be tried at once")
        if pace * len(contexts) > _PATIENCE:
            self._notes.append(
                f"{len(contexts):,} at once were left out: "
                f"by the pace so far they take {pace * len(contexts):.0f} s"
            )
            return
        built = await self._builder.build_at_once(contexts)
        self._look_for_failures(contexts, built, "at once")
        known = {finding.oracle for finding in self._findings}
        if "distinct" not in known:
            self._look_for_doubles(contexts, built)
        if "aliasing" not in known:
            self._look_for_aliasing(contexts, built)
        watched: list[weakref.ref[Any]] = []
        with contextlib.suppress(TypeError):
            watched = [weakref.ref(one) for one in built if not isinstance(one, Failed)]
        del built
        await _settle()
        kept = sum(one() is not None for one in watched)
        if kept and "residue" not in known:
            self._found(
                "residue",
                "memory",
                f"{kept} of {len(watched):,} instances made at once are not freed when they are dropped",
            )


def _unusable(built: Any) -> str:
    """Why nothing can be said of what a factory gave for a valid context; empty where something can."""
    if isinstance(built, Failed):
        return f"failed for the first valid context, so there is nothing to look at: {built.error}"
    if built is None:
        return "returned None for a valid context, so there is no instance to look at"
    if isinstance(built, (str, bytes, int, float, bool)):
        return (
            f"returned a plain {type(built).__name__}, which cannot be told from another one of equal value"
        )
    return ""


async def _settle() -> None:
    """Let callbacks of finished tasks run, then collect: both may be the last to hold an instance."""
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()


def _class_level_containers(instance: Any) -> dict[tuple[type, str], int]:
    from pytest_ssot_isolation.oracles import aliasing

    kinds = {kind for one in aliasing.reachable(instance) for kind in type(one).__mro__}
    return {
        (kind, name): len(value)
        for kind in sorted(kinds, key=lambda kind: (kind.__module__, kind.__qualname__))
        if kind.__module__ not in ("builtins", "abc", "typing", "enum")
        for name, value in list(vars(kind).items())
        if isinstance(value, (dict, list, set)) and not (name.startswith("__") and name.endswith("__"))
    }


def _ids_of(contexts: Sequence[Any]) -> dict[int, str]:
    """Ids by which instances of different users can be told apart: long enough, and of one user only."""
    ids = {index: word for index, context in enumerate(contexts) if len(word := id_of(context) or "") >= 4}
    times = Counter(ids.values())
    return {index: word for index, word in ids.items() if times[word] == 1}


def _name(context: Any) -> str:
    return id_of(context) or shown(context)


def _named(contexts: Sequence[Any], indices: Sequence[int]) -> str:
    return _named_words([_name(contexts[index]) for index in indices])


def _named_words(names: Sequence[str]) -> str:
    if len(names) > _TOLD:
        return f"{', '.join(names[: _TOLD - 1])} and {len(names) - _TOLD + 1} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
