"""One program under one schedule in one world: what everybody saw."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.engine import session
from pytest_ssot_isolation.engine.bind import Binder, LeftOut
from pytest_ssot_isolation.engine.faults import Faults
from pytest_ssot_isolation.engine.hygiene.watch import Watch
from pytest_ssot_isolation.engine.in_common import held_in_common
from pytest_ssot_isolation.engine.lanes import USER, Lane, Turns
from pytest_ssot_isolation.engine.observed_logs import ObservedLogs
from pytest_ssot_isolation.engine.own_threads import OwnThreads
from pytest_ssot_isolation.errors import Busy, BusyStep, CutShort
from pytest_ssot_isolation.generation.planting import Spotted
from pytest_ssot_isolation.model.context import CURRENT, UserExecutionContext
from pytest_ssot_isolation.model.history import Bound, History, InCommon, Observation, Outcome, Trouble
from pytest_ssot_isolation.model.payload import as_seen, succeeded
from pytest_ssot_isolation.model.program import Call
from pytest_ssot_isolation.model.scan import Scanner
from pytest_ssot_isolation.model.schedule import Blocked, Schedule
from pytest_ssot_isolation.oracles.aliasing import Baseline
from pytest_ssot_isolation.surfaces.base import Surface, operations_of

if TYPE_CHECKING:
    from pytest_ssot_isolation.engine.gate import Gate
    from pytest_ssot_isolation.engine.lanes import Chooser
    from pytest_ssot_isolation.engine.script import Script
    from pytest_ssot_isolation.model.canary import Mint
    from pytest_ssot_isolation.model.cast import Cast

CALL_PATIENCE = 2.0
"""Seconds that calls which were cut off get to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for every run of a check.

    Attributes:
        mint: Makes canaries.
        boundary: ``"user"`` or ``"tenant"``.
        patience: Seconds without any step after which a run is given up.
        blocked: Asks the servers how many sessions wait for another's lock.
        gone: Given the local port of a dropped connection, waits until the servers have let go of it.
        most_steps: Steps without the end of a call after which a run is given up.
        watch: Looks at connections when they change hands.
        in_common: Whether the objects of all users are compared at the end of a run.
        leftovers: Whether connections are looked at when they change hands, which costs a query each time.
        acting: Told who takes part in each run, before it begins.
        logs: Shows each run the log records that its users cause.
    """

    mint: Mint
    boundary: str = "user"
    patience: float = 5.0
    blocked: Callable[[], int] | None = None
    gone: Callable[[int], None] | None = None
    most_steps: int = 20_000
    watch: Watch = field(default_factory=Watch)
    in_common: bool = False
    leftovers: bool = True
    acting: Callable[[Sequence[UserExecutionContext]], None] | None = None
    logs: ObservedLogs = field(default_factory=ObservedLogs)


@dataclass(slots=True)
class _Tape:
    """Takes down what is seen, in the order in which it is seen."""

    observations: list[Observation] = field(default_factory=list)
    now: dict[int, tuple[int, str]] = field(default_factory=dict)
    tick: int = 0

    def turn(self) -> int:
        self.tick += 1
        return self.tick

    def push(self, user: int, value: object, channel: str) -> None:
        call, operation = self.now.get(user, (-1, "open"))
        tick = self.turn()
        self.add(user, call, operation, channel, Outcome.OK, as_seen(value), tick, tick)

    def add(
        self, user: int, call: int, operation: str, channel: str, outcome: Outcome, seen: object,
        began: int, ended: int,
    ) -> None:  # fmt: skip
        self.observations.append(
            Observation(
                index=len(self.observations),
                user=user,
                call=call,
                operation=operation,
                channel=channel,
                outcome=outcome,
                seen=seen,
                began=began,
                ended=ended,
            )
        )


class Run:
    """One run; made anew for each.

    Args:
        script: The example.
        cast: Ids and keys of this run.
        world: What the application is.
        terms: What holds for the whole check.
        chooser: Makes the choices; not asked where the program is sequential.
        faults: What is done to whom.
        stand_ins: See ``Binder``.
        sites: Whether to take down where in the code each step began.
        pace: When calls begin at the earliest, by id, in virtual seconds since the first of all.
    """

    def __init__(
        self,
        script: Script,
        cast: Cast,
        world: object,
        terms: Terms,
        chooser: Chooser,
        faults: Faults,
        stand_ins: Mapping[tuple[int, str], object] | None = None,
        *,
        sites: bool = False,
        pace: Mapping[int, float] | None = None,
    ) -> None:
        self.script = script
        self.cast = cast
        self.world = world
        self.terms = terms
        self.faults = faults
        self.binder = Binder(script, cast, terms.mint, stand_ins or {})
        self.turns = Turns(
            chooser, patience=terms.patience, blocked=terms.blocked, most_steps=terms.most_steps
        )
        if sites:
            self.turns.sites = []
        self.tape = _Tape()
        self.bound: dict[int, Bound] = {}
        self.skipped: set[int] = set()
        self.resumptions: dict[int, int] = {}
        self.notes: list[str] = []
        self.trouble: Trouble | None = None
        self._sessions: dict[int, session.Session] = {}
        self._contexts: dict[int, contextvars.Context] = {}
        self._tasks: dict[asyncio.Task[Any], tuple[Call, Lane]] = {}
        self._queues: dict[int, deque[Call]] = {}
        self._open = 0
        self._in_common: tuple[InCommon, ...] = ()
        self._rights: session.Rights = (frozenset(), frozenset())
        self._at_rest: Callable[[], None] = _nothing
        self.opening = 0
        self._pace = pace or {}
        self._zero: float | None = None
        self._moments: dict[int, float] = {}
        # Kept, since to ask for the running loop is a system call in some versions of Python.
        self._loop: Any = None

    async def perform(self) -> History:
        """Sign everybody in, make the calls, sign everybody out.

        Raises:
            Refused: The application does not accept a user's id.
            SurfaceError: A surface cannot be opened.
            BaseException: What must not be swallowed: ``KeyboardInterrupt``, ``pytest.skip``, ...
        """
        try:
            return await self._perform()
        finally:
            self._let_go()

    async def _perform(self) -> History:
        self.terms.watch.begin(self.tape.now if self.terms.leftovers else None)
        loop: Any = asyncio.get_running_loop()
        self._loop = loop
        loop.looks_into_threads = self.terms.watch.in_thread
        before = Baseline([self.world]) if self.terms.in_common else None
        with self.terms.logs.seen_by(self.tape.push):
            try:
                await self._sign_in()
                await self._make_calls()
                if before is not None:
                    surfaces = {index: opened.surface for index, opened in self._sessions.items()}
                    self._in_common = (*held_in_common(surfaces, before), *self.terms.watch.in_common)
                # Asked while everybody is signed in: an answer may hang on the world.
                self._rights = session.rights(self._sessions, self.cast.contexts, self.terms.boundary)
            except session.Expectation as unmet:
                unmet.history = self._history()
                raise
            finally:
                self.terms.watch.end()
                loop.looks_into_threads = None
                await self._sign_out()
        return self._history()

    def _let_go(self) -> None:
        """Cut the circles through this run: what it held is freed at once, and not by the collector."""
        turns = self.turns
        turns.before_step = turns.after_step = None
        turns.when_stopped = self._at_rest = _nothing
        turns.lanes.clear()
        for opened in self._sessions.values():
            opened.surface._plant = opened.surface._spot = None
        self._sessions.clear()
        self._contexts.clear()

    # -- sessions ------------------------------------------------------------------------------------

    async def _sign_in(self) -> None:
        acting = set(self.script.program.users)
        loop = self._loop
        self._threads = OwnThreads(contextvars.copy_context())
        opening = []
        for index, context in enumerate(self.cast.contexts):
            cls = self.script.surfaces[index]
            surface = cls()
            surface.world = self.world
            surface.user = context
            surface._tell = _teller(self.tape, index)
            surface._plant = self._planter(index)
            surface._spot = self._spotter
            home = contextvars.copy_context()
            home.run(USER.set, index)
            home.run(CURRENT.set, context)
            self._contexts[index] = home
            self._sessions[index] = opened = session.Session(surface, operations_of(cls))
            if (index in acting or not self.script.program.sequential) and not opened.opens_by_itself:
                opening.append((index, loop.create_task(self._open_one(index), context=home)))
                if not cls.open_concurrently:
                    await opening[-1][1]
        for _, task in opening:
            await task

    def _planter(self, index: int) -> Callable[[Any, Mapping[str, Any]], object]:
        def plant(kind: Any, shape: Mapping[str, Any]) -> object:
            return self.binder.plant(index, self.tape.now.get(index, (-1, ""))[0], kind, shape)

        return plant

    def _spotter(self, seen: object) -> tuple[Spotted, ...]:
        owners = {self.script.serial + n: context for n, context in enumerate(self.cast.contexts)}
        scanner = Scanner(self.terms.mint)
        for planted in self.binder.planted.values():
            scanner.learn(planted.canary)
        return tuple(
            Spotted(owners[s.user], s.path, s.encoding, s.weak)
            for s in scanner.scan(seen)
            if s.user in owners
        )

    async def _open_one(self, index: int) -> None:
        self.opening = index
        seen = await self._sessions[index].open()
        if seen is not None:
            tick = self.tape.turn()
            self.tape.add(index, -1, "open", "result", Outcome.OK, as_seen(seen), tick, tick)

    async def _sign_out(self) -> None:
        for index, opened in self._sessions.items():
            if opened.closes_by_itself:
                continue
            note = await self._loop.create_task(opened.close(), context=self._contexts[index])
            if note:
                self.notes.append(note)

    # -- calls ---------------------------------------------------------------------------------------

    async def _make_calls(self) -> None:
        gate: Gate = self._loop
        finished = self._loop.create_future()

        def finish() -> None:
            if not finished.done():
                finished.set_result(None)

        stages = sorted({call.stage for call in self.script.program.calls})

        def next_stage() -> None:
            if not stages:
                finish()
                return
            stage = stages.pop(0)
            for call in self.script.program.calls:
                if call.stage == stage:
                    self._queues.setdefault(self._queue_of(call), deque()).append(call)
            self._open = sum(len(queue) for queue in self._queues.values())
            for key in sorted(self._queues):
                self._next_of(key)

        def rest() -> None:
            if stages:
                gate.draining = next_stage
                gate.wake()
            else:
                finish()

        self._at_rest = rest
        self.turns.main = asyncio.current_task(self._loop)
        self.turns.when_stopped = finish
        if self.faults.ordered_faults():
            self.turns.before_step = self._before_step
            self.turns.after_step = self._after_step
        await gate.let_early_tasks_rest()
        gate.close_gate(self.turns)
        try:
            next_stage()
            await finished
        finally:
            gate.open_gate()
            await self._end_calls()
        self._give_up(self.turns.stopped)

    def _queue_of(self, call: Call) -> int:
        """Calls of one queue are made one after another: those of a user, or in a sequential program all."""
        return 0 if self.script.program.sequential else call.user

    def _next_of(self, key: int) -> None:
        queue = self._queues[key]
        if not queue:
            return
        call = queue.popleft()
        self.turns.begin_call(call.user, call.id)
        context = self._contexts[call.user].copy()
        task = self._loop.create_task(self._call(call), context=context)
        self._tasks[task] = (call, self.turns.lanes[task])
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        call, lane = self._tasks.pop(task)
        self.resumptions[call.id] = lane.made
        self.turns.end_call()
        if not task.cancelled() and (escaped := task.exception()) is not None:
            self.turns.stop(escaped)
            return
        self._open -= 1
        if self.turns.stopped is not None:
            return
        self._next_of(self._queue_of(call))
        if not self._open:
            self._at_rest()

    def _before_step(self, lane: Lane) -> None:
        made = self._tasks.get(lane.task)
        if made is not None:
            resumed = lane.made - 1  # The step that is about to be made is counted already.
            if resumed:
                self.faults.before(made[0].id, resumed, lane.task)

    def _after_step(self, lane: Lane) -> None:
        made = self._tasks.get(lane.task)
        if made is not None:
            self.faults.after(made[0].id, lane.made, lane.task, self.turns.sent_over)

    async def _end_calls(self) -> None:
        left = list(self._tasks)
        for task in left:
            task.remove_done_callback(self._ended)
            task.cancel()
        if left:
            _, stubborn = await asyncio.wait(left, timeout=CALL_PATIENCE)
            if stubborn:
                calls = sorted({self._tasks[task][0].operation for task in stubborn})
                self.trouble = Trouble(
                    kind="leftover",
                    text=f"Ignored cancellation for {CALL_PATIENCE:g} s: {', '.join(calls)}.",
                    users=tuple(sorted({self._tasks[task][0].user for task in stubborn})),
                )
        self._tasks.clear()

    def _give_up(self, reason: BaseException | None) -> None:
        if reason is None:
            return
        if isinstance(reason, CutShort):
            self.trouble = Trouble(kind=reason.kind, text=str(reason), users=reason.users)
        else:
            raise reason

    # -- one call ------------------------------------------------------------------------------------

    async def _call(self, call: Call) -> None:
        opened = self._sessions[call.user]
        operation = opened.operations[call.operation]
        now: float = self._loop.time()
        if self._zero is None:
            self._zero = now
        early = self._pace.get(call.id, 0.0) - (now - self._zero) if self._pace else 0.0
        if early > 0:
            await asyncio.sleep(early)
            now = self._loop.time()
        self._moments[call.id] = now - self._zero
        tape = self.tape
        tape.tick = began = tape.tick + 1
        if operation.needs is not None and not operation.needs(opened.surface):
            self.skipped.add(call.id)
            return
        try:
            bound = self.binder.bind(call, operation)
        except LeftOut:
            self.skipped.add(call.id)
            return
        self.bound[call.id] = bound
        tape.now[call.user] = (call.id, call.operation)
        arguments = dict(bound.arguments)
        try:
            method = getattr(opened.surface, operation.name)
            scope = self.faults.scope(call.id) if self.turns.before_step is not None else None
            # Awaited here: a coroutine in between would be gone through at every step of the call.
            if not operation.is_async:
                value = await self._in_thread(method, arguments)
            elif scope is None:
                value = await method(**arguments)
            else:
                async with scope:
                    value = await method(**arguments)
            seen = as_seen(value)
            # Whatever else may tell of a failure is a mapping by now.
            outcome = Outcome.OK if type(seen) is not dict or succeeded(seen) else Outcome.FAILED
        except BaseException as error:
            try:
                outcome = self._failed(call, opened.surface, error)
            except session.Expectation:
                tape.add(
                    call.user, call.id, call.operation, "result", Outcome.FAILED, as_seen(error), began,
                    tape.turn(),
                )  # fmt: skip
                raise
            seen = as_seen(error)
        tape.add(call.user, call.id, call.operation, "result", outcome, seen, began, tape.turn())
        if outcome is Outcome.OK:
            self.binder.keep(call, seen)

    async def _in_thread(self, method: Callable[..., object], arguments: dict[str, Any]) -> object:
        """Make the call of a plain function."""
        # The default executor of the loop; its threads count as the outside world.
        value = await self._loop.run_in_executor(
            None, self._threads.run, contextvars.copy_context(), method, arguments
        )
        return await value if asyncio.iscoroutine(value) else value

    def _failed(self, call: Call, surface: Surface[Any], error: BaseException) -> Outcome:
        """How a call ended that raised; raises what is no observation."""
        if passes_through(error):
            raise error
        if isinstance(error, BusyStep):
            raise Busy(BusyStep.where, (call.user,)) from error
        cut = self.faults.ordered(call.id)
        if session.is_own_expectation(error, surface) and not cut:
            raise session.Expectation(error, call.id) from error
        return Outcome.UNKNOWN if cut else Outcome.FAILED

    # -- what was seen -------------------------------------------------------------------------------

    def _history(self) -> History:
        principals = self.script.principals(self.cast)
        lawful, changing = self._rights
        return History(
            moments=self._moments,
            principals=principals,
            observations=tuple(self.tape.observations),
            planted=self.binder.planted,
            bound=self.bound,
            lawful=lawful,
            may_change=changing,
            trace=tuple(self.turns.trace),
            schedule=self._schedule(),
            trouble=self.trouble,
            example=self.script.number,
            skipped=frozenset(self.skipped),
            resumptions=self.resumptions,
            sites=tuple(self.turns.sites or ()),
            path=tuple(self.turns.path),
            leftovers=tuple(self.terms.watch.found),
            in_common=self._in_common,
            notes=tuple(self.notes),
        )

    def _schedule(self) -> Schedule:
        chosen = getattr(self.turns.chooser, "made", None)
        made = chosen() if callable(chosen) else Schedule()
        hidden = dict(self.turns.hidden)
        return Schedule(
            anchors=made.anchors,
            faults=tuple(f for f in self.faults.ordered_faults() if f.call in self.faults.done),
            in_flight=made.in_flight,
            picks=made.picks,
            together=made.together,
            blocked=tuple(Blocked(at, lanes) for at, lanes in hidden.items()),
        )


def _nothing() -> None:
    """Nobody waits for anything any more."""


def passes_through(error: BaseException) -> bool:
    """Whether an exception is the test runner's business: an interrupt, ``pytest.skip`` and the like."""
    # pytest's own exceptions pretend to be built in; their base does not.
    return isinstance(error, KeyboardInterrupt) or any(
        base.__module__ == "_pytest.outcomes" for base in type(error).__mro__
    )


def _teller(tape: _Tape, index: int) -> Callable[[object, str], None]:
    def tell(value: object, channel: str) -> None:
        tape.push(index, value, channel)

    return tell
