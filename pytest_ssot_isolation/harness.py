"""``Isolation``: what the ``isolation`` fixture hands to a test."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_ssot_isolation.errors import InconclusiveCheck, LeakFound, SurfaceError
from pytest_ssot_isolation.extensions import Extensions
from pytest_ssot_isolation.known_findings import KnownFindings
from pytest_ssot_isolation.model.report import Report
from pytest_ssot_isolation.model.verdict import Severity, Verdict
from pytest_ssot_isolation.parameters import BUDGETS, Parameters, read

if TYPE_CHECKING:
    from pytest_ssot_isolation.engine.ask import Ask
    from pytest_ssot_isolation.engine.hygiene.watch import Watch
    from pytest_ssot_isolation.engine.record import Recording
    from pytest_ssot_isolation.engine.search import Hunt
    from pytest_ssot_isolation.mutation.guards import Reach
    from pytest_ssot_isolation.mutation.self_test import SelfTest, Trial
    from pytest_ssot_isolation.options import Settings
    from pytest_ssot_isolation.surfaces.base import Surface

TOGETHER = (300, 3.0)
"""Interleavings and seconds of an ordinary test that several users run, in the default profile."""

Reset = Callable[[], Awaitable[None]]
Surfaces = "type[Surface[Any]] | Sequence[type[Surface[Any]]]"
Pool = TypeVar("Pool")
_UNSET: Any = object()


def _silent(examples: int, findings: int) -> None:
    """Tell nobody."""


class Isolation:
    """Checks that one user never sees, changes or disturbs another's things.

    Args:
        settings: The options of the run.
        test_id: Id of the test; names the examples that are kept.
        marker: Defaults for ``check`` from ``@pytest.mark.isolation``.
        resets: Gives the resets of the databases that the test requested.
        root: Folder of the run; failing examples are kept below it.
        record: Takes each report.
        blocked: Gives what asks the databases of the test how many sessions wait for another's lock;
            None where there is none to ask.
        gone: Gives what waits until those databases have let go of a dropped connection, given its local port;
            None where there is none.
        share: Seconds of the run's budget that one check may take; None for the profile's own.
        known: Findings that are accepted; none by default.
        extensions: Gives the oracles and surfaces of other plugins.
        databases: Gives the databases of the test, whose row security may be weakened.
        typed: The test's id as it is typed where pytest was called, for commands to copy; the id itself by default.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        test_id: str,
        marker: Mapping[str, object] | None = None,
        resets: Callable[[], Sequence[Reset]] = tuple,
        root: Path | None = None,
        record: Callable[[Report], None] = lambda report: None,
        blocked: Callable[[], Callable[[], int] | None] = lambda: None,
        gone: Callable[[], Callable[[int], None] | None] = lambda: None,
        share: float | None = None,
        known: KnownFindings | None = None,
        extensions: Callable[[], Extensions] = Extensions,
        databases: Callable[[], Sequence[Any]] = tuple,
        typed: str = "",
    ) -> None:
        self._databases = databases
        self._known = known if known is not None else KnownFindings()
        self._extensions = extensions
        self._watch: Watch | None = None
        self._settings = settings
        self._test_id = test_id
        self._typed = typed or test_id
        self._marker = {name: value for name, value in (marker or {}).items() if name != "loop"}
        self._resets = resets
        self._root = root
        self._record = record
        self._blocked = blocked
        self._gone = gone
        self._share = share
        self._checks = 0

    # -- check ---------------------------------------------------------------------------------------

    def check(
        self,
        surface: type[Surface[Any]] | Sequence[type[Surface[Any]]],
        *,
        world: Callable[[], Any] | None = None,
        reset: Callable[[Any], Any] | None = None,
        users: int = _UNSET,
        calls: int = _UNSET,
        examples: int | None = _UNSET,
        oracles: Iterable[str] = _UNSET,
        faults: Iterable[str] | str = _UNSET,
        ids: Any = _UNSET,
        boundary: str = _UNSET,
        tenants: int | Sequence[str] | None = _UNSET,
        world_scope: str = _UNSET,
        stop_at_first: bool = _UNSET,
        mutate: Iterable[str] | str = _UNSET,
        seed: int | None = _UNSET,
        progress: Callable[[int, int], None] = _silent,
    ) -> Report:
        """Let several users act against each other, and say whether one met another's things.

        Args:
            surface: A class, or several: users are dealt over them.
            world: Called without arguments for the application: a value, an awaitable, or a context
                manager. Called once for each run, in an event loop of the harness.
            reset: Given the world, clears state of the author's own before each run.
            users: How many users act in the interleaved programs, 2 to 1,000; 3 by default.
            calls: The most calls in one program, all users together; 24 by default.
            examples: Exactly so many programs; the profile's budget by default.
            oracles: Names of the oracles that judge; all but ``aliasing`` by default.
            faults: ``"cancel"``, ``"timeout"``, ``"disconnect"``, or ``"all"``; none by default.
            ids: ``"hostile"`` (default), ``"plain"``, ``"int"``, ``"uuid"``, or a strategy of strings.
            boundary: ``"user"`` (default) or ``"tenant"``.
            tenants: How many tenants, or their ids.
            world_scope: ``"example"`` (default), or ``"check"`` for one world for all runs.
            stop_at_first: End at the first finding that fails the check.
            mutate: Guards to weaken one at a time, once the check is clean, to learn whether it would notice:
                ``"drop_where"``, ``"set_local"``, ``"force_rls"``, ``"cache_key"``, ``"contextvar_reset"``, or
                ``"all"``. Half of the budget is theirs.
            seed: Fixes everything that is drawn.
            progress: Told after each example: examples so far, findings so far.

        Returns:
            The report of a clean check.

        Raises:
            LeakFound: Somebody met another's things; ``.report`` has the minimal history.
            InconclusiveCheck: Nothing can be said.
            SurfaceError: The surface, the world or a parameter cannot be used.
        """
        __tracebackhide__ = True  # A leak is told at the test's own line.
        if _in_running_loop():
            raise SurfaceError(
                "isolation.check() was called while an event loop is running, and it runs one of its own.\n"
                "To fix this, write `await isolation.check_async(...)` instead."
            )
        given = {
            "users": users, "calls": calls, "examples": examples, "oracles": oracles, "faults": faults,
            "ids": ids, "boundary": boundary, "tenants": tenants, "world_scope": world_scope,
            "stop_at_first": stop_at_first, "mutate": mutate, "seed": seed, "reset": reset,
        }  # fmt: skip
        set_here = {name: value for name, value in given.items() if value is not _UNSET}
        asked = read(surface, self._marker, set_here, self._extensions())
        return self._concluded(self._run(asked, world, progress))

    def _concluded(self, report: Report) -> Report:
        __tracebackhide__ = True
        report = self._with_notes(report)
        self._record(report)
        return _or_raise(report, self._typed)

    async def check_async(self, surface: Any, **options: Any) -> Report:
        """``check`` for a test that is itself a coroutine: runs in a loop of its own in a worker thread.

        With ``@pytest.mark.isolation(loop="pytest-asyncio")`` it runs in the test's own loop, beside its fixtures.
        """
        loop = asyncio.get_running_loop()
        world = options.get("world")
        if _is_gate(loop):
            __tracebackhide__ = True
            bound = inspect.signature(self.check).bind(surface, **options).arguments
            world, progress = bound.pop("world", None), bound.pop("progress", _silent)
            asked = read(bound.pop("surface"), self._marker, bound, self._extensions())
            return self._concluded(await _in_this_loop(self._run_here(asked, world, progress)))
        if world is not None:
            options["world"] = _foreign_loop_guard(world, loop)
        __tracebackhide__ = True
        try:
            return await asyncio.to_thread(self.check, surface, **options)
        except (LeakFound, InconclusiveCheck) as told:
            raise told.with_traceback(None) from None  # The frames of the worker thread say nothing.

    def _run(
        self, asked: Parameters, world: Callable[[], Any] | None, progress: Callable[[int, int], None]
    ) -> Report:
        from pytest_ssot_isolation.engine.host import Host
        from pytest_ssot_isolation.engine.store import Store

        began = time.monotonic()
        ask = self._ask(asked)
        store = Store(self._folder(), self._test_id)
        replay = asked.replay or self._settings.replay
        test = self._self_test(asked) if replay is None else None
        if test is not None and ask.examples is None:
            ask = replace(ask, seconds=ask.seconds / 2)  # The other half is for the weakened application.
        hunt = self._hunt(ask, asked, world, progress, store.keep, store.known(ask.surfaces), test)
        if replay is not None:
            return _in_own_loop(self._replayed(replay, hunt, ask, began))
        with Host() as host, test.recording() if test is not None else nullcontext():
            host.run(hunt.run())
            eager = host.loop.saw_eager_tasks
        from pytest_ssot_isolation.conclude import conclude, with_mutants

        report = conclude(hunt, ask, test=self._test_id, seconds=time.monotonic() - began, eager=eager)
        if test is None or report.verdict is not Verdict.CLEAN:
            return report
        mutants = test.run(
            lambda seconds, reach: self._try(asked, ask, world, test, hunt, seconds, reach), ask.seconds
        )
        return replace(with_mutants(report, mutants), seconds=time.monotonic() - began)

    async def _run_here(
        self, asked: Parameters, world: Callable[[], Any] | None, progress: Callable[[int, int], None]
    ) -> Report:
        """``_run`` in the caller's loop, which is a gate loop."""
        from pytest_ssot_isolation.conclude import conclude
        from pytest_ssot_isolation.engine.store import Store

        if asked.mutate:
            raise SurfaceError(
                "mutate= runs a check for each weakened guard, each in an event loop of its own.\n"
                'To fix this, leave loop="pytest-asyncio" out of this test\'s marker, and make what belongs to an '
                "event loop in the world factory."
            )
        began = time.monotonic()
        ask = self._ask(asked)
        store = Store(self._folder(), self._test_id)
        hunt = self._hunt(ask, asked, world, progress, store.keep, store.known(ask.surfaces))
        replay = asked.replay or self._settings.replay
        if replay is not None:
            return await self._replayed(replay, hunt, ask, began)
        await hunt.run()
        eager = getattr(asyncio.get_running_loop(), "saw_eager_tasks", False)
        return conclude(hunt, ask, test=self._test_id, seconds=time.monotonic() - began, eager=eager)

    # -- the self-test -------------------------------------------------------------------------------

    def _self_test(self, asked: Parameters) -> SelfTest | None:
        if not asked.mutate:
            return None
        from pytest_ssot_isolation.mutation.self_test import prepare

        return prepare(asked.mutate, self._databases(), self._settings.packages)

    def _try(
        self, asked: Parameters, ask: Ask, world: Callable[[], Any] | None, test: SelfTest, clean: Hunt,
        seconds: float, reach: Reach,
    ) -> Trial:  # fmt: skip
        """Check an application of which one guard is weakened, with the programs that the check itself had."""
        from pytest_ssot_isolation.conclude import weakened_verdict
        from pytest_ssot_isolation.engine.host import Host
        from pytest_ssot_isolation.mutation.self_test import UNREACHED, Trial

        def progress(examples: int, findings: int) -> None:
            if not reach.count and examples >= UNREACHED:
                hunt.budget.end()

        most = ask.examples if ask.examples is not None else ask.most_examples
        short = replace(
            ask, examples=None, most_examples=most, seconds=seconds, stop_at_first=True, only_whether=True
        )
        hunt = self._hunt(short, asked, world, progress, lambda recording, told: "", (), test)
        try:
            with Host() as host:
                host.run(hunt.run())
        except SurfaceError as error:
            return Trial(trouble=str(error).partition("\n")[0], examples=hunt.tally.examples)
        by, trouble = weakened_verdict(hunt, clean, short)
        return Trial(by=by, trouble=trouble, examples=hunt.tally.examples)

    def _hunt(
        self, ask: Ask, asked: Parameters, world: Callable[[], Any] | None,
        progress: Callable[[int, int], None], keep: Callable[[Recording, Sequence[str]], str],
        known: Sequence[Recording], test: SelfTest | None = None,
    ) -> Hunt:  # fmt: skip
        from pytest_ssot_isolation.engine.judge import Bench
        from pytest_ssot_isolation.engine.run import Terms
        from pytest_ssot_isolation.engine.search import Hunt
        from pytest_ssot_isolation.engine.start import Starts
        from pytest_ssot_isolation.model.canary import Mint
        from pytest_ssot_isolation.model.scan import Scanner
        from pytest_ssot_isolation.surfaces.base import ways_into_the_world

        mint = Mint(hashlib.sha256(f"canaries {ask.seed}".encode()).digest())
        bench = Bench(
            oracles=frozenset(ask.oracles),
            scanner=Scanner(mint),
            declared=asked.declared,
            further=self._extensions().oracles,
        )
        within = ways_into_the_world(ask.surfaces)
        if test is not None:
            within = (*within, test.stage.around)
        starts = Starts(world, asked.reset, tuple(self._resets()), asked.world_scope, within)
        terms = Terms(
            mint=mint,
            boundary=ask.boundary,
            blocked=self._blocked(),
            gone=self._gone(),
            watch=self._watched(),
            in_common="aliasing" in ask.oracles,
            leftovers=ask.reads_leftovers,
            acting=test.stage.roster.take if test is not None else None,
        )
        return Hunt(
            ask, terms, starts, bench, keep=keep, known=known, progress=progress,
            accepts=lambda finding: self._known.accepts(finding, self._test_id),
        )  # fmt: skip

    def _ask(self, asked: Parameters) -> Ask:
        from pytest_ssot_isolation.engine.ask import Ask

        most, seconds = BUDGETS[self._settings.profile]
        if self._share is not None:
            seconds = self._share
        if self._settings.profile == "deep":
            most = None
        self._checks += 1
        seed = asked.seed
        if seed is None:
            seed = random.Random(f"{self._settings.seed} {self._test_id} {self._checks}").getrandbits(48)
        return Ask(
            surfaces=asked.surfaces, operations=asked.operations, users=asked.users, calls=asked.calls,
            examples=asked.examples, most_examples=most, seconds=seconds, oracles=asked.oracles,
            faults=asked.faults, ids=asked.ids, boundary=asked.boundary, tenants=asked.tenants,
            stop_at_first=asked.stop_at_first, seed=seed, fail_on=Severity.of(self._settings.fail_on),
        )  # fmt: skip

    def _folder(self) -> Path | None:
        if self._root is None:
            return None
        folder = self._settings.directory
        return folder if folder.is_absolute() else self._root / folder

    # -- replay --------------------------------------------------------------------------------------

    def replay(
        self,
        text_or_path: str | Path,
        surface: type[Surface[Any]] | Sequence[type[Surface[Any]]],
        *,
        world: Callable[[], Any] | None = None,
        reset: Callable[[Any], Any] | None = None,
    ) -> Report:
        """Run one recorded example again.

        Args:
            text_or_path: The text form of a recording, or the path of its file.
            surface: The surfaces with which it was recorded.
            world: As in ``check``.
            reset: As in ``check``.

        Returns:
            A report with the finding, where it came again; this method does not raise for it.

        Raises:
            ReplayMismatch: The recording cannot be read, belongs to another surface, or the steps ran
                otherwise than recorded.
        """
        asked = read(surface, {}, {"reset": reset}, self._extensions())
        began = time.monotonic()
        ask = self._ask(asked)
        hunt = self._hunt(
            ask,
            asked,
            world,
            lambda examples, findings: None,
            lambda recording, told: recording.to_text(),
            (),
        )
        report = _in_own_loop(self._replayed(str(text_or_path), hunt, ask, began))
        self._record(report)
        return report

    async def replay_async(self, text_or_path: str | Path, surface: Any, **options: Any) -> Report:
        """``replay`` for a test that is itself a coroutine."""
        return await asyncio.to_thread(self.replay, text_or_path, surface, **options)

    async def _replayed(self, text: str, hunt: Hunt, ask: Ask, began: float) -> Report:
        from pytest_ssot_isolation.conclude import conclude
        from pytest_ssot_isolation.engine.record import parse, restore, text_of
        from pytest_ssot_isolation.model.canary import Mint
        from pytest_ssot_isolation.model.scan import Scanner

        recording = restore(parse(text_of(text, self._root)), ask.surfaces)
        # The recorded seed mints the recorded canaries.
        mint = Mint(hashlib.sha256(f"canaries {recording.seed}".encode()).digest())
        hunt.bench.scanner = Scanner(mint)
        hunt.attempts.terms = replace(hunt.attempts.terms, mint=mint, boundary=recording.boundary)
        await hunt.replay(recording)
        return conclude(
            hunt, ask, test=self._test_id, seconds=time.monotonic() - began, eager=False, replayed=True
        )

    # -- an ordinary test, several users ---------------------------------------------------------------

    def run_together(
        self, test: Callable[..., Any], name: str, arguments: Mapping[str, Any], marker: Mapping[str, Any]
    ) -> Report:
        """``run_together_async`` in an event loop of the harness."""
        __tracebackhide__ = True  # A failure is told at the test's own line.
        return _in_own_loop(self._run_together(test, name, arguments, marker))

    async def run_together_async(
        self, test: Callable[..., Any], name: str, arguments: Mapping[str, Any], marker: Mapping[str, Any]
    ) -> Report:
        """``run_together`` in the event loop of the test's fixtures, which is a gate loop."""
        __tracebackhide__ = True
        return await _in_this_loop(self._run_together(test, name, arguments, marker))

    async def _run_together(
        self, test: Callable[..., Any], name: str, arguments: Mapping[str, Any], marker: Mapping[str, Any]
    ) -> Report:
        """Run an ordinary ``async def`` test once for each user, all at the same time, interleaved.

        Args:
            test: The coroutine function.
            name: Its name.
            arguments: Values of its fixtures.
            marker: What ``@pytest.mark.concurrency`` says: ``users``, ``examples``, ``faults``, ``reset``.

        Returns:
            The report, where every interleaving passed.

        Raises:
            BaseException: What the test itself raised, with the smallest interleaving as a note.
            LeakFound: A user saw another's canary, or users wait for each other for ever.
        """
        from pytest_ssot_isolation.conclude import conclude
        from pytest_ssot_isolation.engine.store import Store
        from pytest_ssot_isolation.surfaces.plain_test import surface_of

        __tracebackhide__ = True  # A failure is told at the test's own line.
        began = time.monotonic()
        surface = surface_of(test, name, arguments)
        marker = {option: value for option, value in marker.items() if option != "loop"}
        unknown = sorted(set(marker) - {"users", "examples", "faults", "reset", "replay"})
        if unknown:
            raise SurfaceError(
                f"@pytest.mark.concurrency knows no {unknown[0]!r}.\n"
                "To fix this, use users=, examples=, faults= or reset=."
            )
        given = {"users": 4, **marker, "oracles": ("canary", "availability")}
        asked = read(surface, {}, given)
        ask = replace(self._ask(asked), together=True)
        if self._settings.profile == "default":
            ask = replace(ask, most_examples=TOGETHER[0], seconds=min(ask.seconds, TOGETHER[1]))
        store = Store(self._folder(), self._test_id, plain_test=True)
        hunt = self._hunt(ask, asked, None, _silent, store.keep, store.known((surface,)))
        replay = asked.replay or self._settings.replay
        if replay is not None:
            report = await self._replayed(replay, hunt, ask, began)
        else:
            await hunt.run()
            report = conclude(hunt, ask, test=self._test_id, seconds=time.monotonic() - began, eager=False)
        self._record(report)
        if hunt.unmet:
            error, finding = hunt.unmet[0], report.findings[0]
            if finding.preemptions or finding.fault or len(finding.calls) > 1:
                from pytest_ssot_isolation.report.terminal import render

                error.add_note(render([replace(report, test=self._typed)]))
            raise error
        return _or_raise(report, self._typed)

    # -- pools ---------------------------------------------------------------------------------------

    def watch_pool(self, pool: Pool) -> Pool:
        """Look, in each check, at what a connection still carries when the next user gets it.

        asyncpg's pools are looked at in any case. Call it where the pool is made, also inside ``world``:
        ``pool = isolation.watch_pool(AsyncConnectionPool(...))``.

        Args:
            pool: A psycopg pool of either kind, an SQLAlchemy engine for PostgreSQL, a client of
                clickhouse-connect, or an asyncpg pool.

        Returns:
            The same pool.

        Raises:
            SurfaceError: It is something else.
        """
        from pytest_ssot_isolation.engine.hygiene.pools import attach

        return attach(self._watched(), pool)

    def _watched(self) -> Watch:
        from pytest_ssot_isolation.engine.hygiene.watch import Watch

        if self._watch is None:
            self._watch = Watch()
        return self._watch

    # -- accepted findings ---------------------------------------------------------------------------

    def _accepted(self, report: Report) -> Report:
        """A report of a check that knows nothing of accepted findings, as if it did."""
        findings = tuple(self._known.accepts(finding, self._test_id) for finding in report.findings)
        if report.verdict is Verdict.LEAK and all(finding.accepted for finding in findings):
            verdict = Verdict.INCONCLUSIVE if report.reasons else Verdict.CLEAN
            return replace(report, findings=findings, verdict=verdict)
        return replace(report, findings=findings)

    def _with_notes(self, report: Report) -> Report:
        notes = self._known.notes(report.findings, self._test_id)
        return replace(report, notes=(*report.notes, *notes)) if notes else report

    # -- factories -----------------------------------------------------------------------------------

    def check_factory(
        self,
        factory: Callable[..., Any],
        *,
        contexts: Sequence[Any] | Callable[[int], Any] | None = None,
        shares: Iterable[Any] = (),
        users: int = 20,
    ) -> Report:
        """Call a factory for many user contexts, and say whether its instances are apart.

        Args:
            factory: Sync or async; takes a ``UserExecutionContext``.
            contexts: The contexts to call it with; fresh ones by default.
            shares: Objects, or types of objects, that the instances may share.
            users: How many contexts, where none are given; 20 by default.

        Returns:
            The report of a sound factory.

        Raises:
            LeakFound: Two users got one object, or one's failure harmed another.
        """
        from pytest_ssot_isolation.engine.factory import check_factory

        report = check_factory(factory, contexts=contexts, shares=shares, users=users)
        report = replace(report, test=self._test_id)
        report = self._with_notes(self._accepted(report))
        self._record(report)
        return _or_raise(report, self._typed)

    async def check_factory_async(self, factory: Callable[..., Any], **options: Any) -> Report:
        """``check_factory`` for a test that is itself a coroutine."""
        return await asyncio.to_thread(self.check_factory, factory, **options)


def _in_own_loop(work: Coroutine[Any, Any, Report]) -> Report:
    """Do the harness's work in an event loop of its own."""
    __tracebackhide__ = True
    from pytest_ssot_isolation.engine.host import Host

    with Host() as host:
        return host.run(work)


async def _in_this_loop(work: Coroutine[Any, Any, Report]) -> Report:
    """Do the harness's work in the caller's loop, which is a gate loop."""
    __tracebackhide__ = True
    from pytest_ssot_isolation.engine.host import Watchdog

    with Watchdog(asyncio.get_running_loop()):
        return await work


def _is_gate(loop: asyncio.AbstractEventLoop) -> bool:
    # Asked of the loop, so that a test without one does not pay for the engine's import.
    return hasattr(loop, "close_gate")


def _or_raise(report: Report, typed: str) -> Report:
    """Raise for a leak or for having nothing to say; an answer that is neither comes back."""
    __tracebackhide__ = True
    if report.verdict is Verdict.CLEAN:
        return report
    from pytest_ssot_isolation.report.terminal import render

    text = render([replace(report, test=typed)])
    if report.verdict is Verdict.LEAK:
        raise LeakFound(text, report)
    raise InconclusiveCheck(text, report)


def _in_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _foreign_loop_guard(world: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> Callable[[], Any]:
    """Refuse an object that belongs to the caller's loop: it would hang in the harness's own."""

    def guarded() -> Any:
        given = world()
        for name in ("_loop", "loop"):
            if (
                getattr(given, name, None) is loop
                and threading.current_thread() is not threading.main_thread()
            ):
                raise SurfaceError(
                    f"The world gave a {type(given).__name__} that belongs to the test's own event loop.\n"
                    "To fix this, make it inside the world factory, which runs in the harness's loop."
                )
        return given

    return guarded
