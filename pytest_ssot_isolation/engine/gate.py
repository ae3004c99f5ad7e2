"""An event loop that lets one step of one user's task run at a time, chosen by a schedule.

Only what puts callbacks, timers, tasks, jobs and sockets into the loop is overridden, so the same mixin works
over the standard selector loop and over uvloop. Coroutines are not
stepped by hand: that would break ``current_task``, ``asyncio.timeout``, task groups and cancel scopes.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
import weakref
from asyncio import futures
from collections import deque
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.engine.clock import VirtualClock
from pytest_ssot_isolation.engine.eager import Alarm, EagerSelector
from pytest_ssot_isolation.engine.lanes import USER, Lane, Turns
from pytest_ssot_isolation.engine.outside import Outside, WatchedSocket, WatchedTransport
from pytest_ssot_isolation.engine.waits import Kind
from pytest_ssot_isolation.engine.watches import Watches
from pytest_ssot_isolation.errors import Busy, Deadlock, Stuck
from pytest_ssot_isolation.model.context import CURRENT, UserExecutionContext
from pytest_ssot_isolation.model.schedule import APP, CLOCK, Position

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from pytest_ssot_isolation.engine.outside import Connection
    from pytest_ssot_isolation.engine.workers import Workers

# Other callbacks go first between two steps, but not for ever: the delivery of a cancellation by anyio
# schedules itself anew as long as its task has not ended.
MOST_DEFERRALS = 16
# Steps run inside one callback of the loop, which saves a poll of the selector for each.
MOST_INLINE = 64
# A lane that was told to be blocked is given this long again at each later step, in seconds.
SHORT_GRACE = 0.003
# A server that can be asked answers sooner than the grace ends; seconds until the first question.
FIRST_QUESTION = 0.004
# "Let time pass" is offered for timers no further away than this, in seconds of virtual time.
NEAR = 1.0
# Timers that are fired, and their reach in seconds, before the next stage begins.
DRAIN_TIMERS = 8
DRAIN_REACH = 1.0
MOST_DRAIN_STEPS = 500
# Everybody waits for somebody, and no reply is due: so long, in seconds, something may still be pushed from
# a socket, and longer where the loop does not show its sockets.
QUIET = 0.035
UNSEEN_QUIET = 0.3
RECHECK = 0.01
# Seconds that what was started at sign-in has to come to rest at most.
EARLY_REST = 0.03
# Work of the application's own that waits for a reply holds virtual time up so long, in seconds.
OWED_PATIENCE = 1.0

# An enumeration's members are slow to reach in some versions of Python.
_OUTSIDE, _UNCLEAR = Kind.OUTSIDE, Kind.UNCLEAR
_WAKES_A_SLEEPER = futures._set_result_unless_cancelled  # type: ignore[attr-defined]


class Gate:
    """Mixin for an event loop: steps of tasks wait here until the schedule lets them go on."""

    outside: Outside
    busy: str = ""
    saw_eager_tasks = False
    draining: Callable[[], None] | None = None
    _turns: Turns | None = None
    _pumping = False
    _is_within = False
    _hearing = False
    _deferred = 0
    _in_step = False
    _serving = False
    _went_round = 0
    _eager: EagerSelector | None = None
    _grace_is_over = False
    _grace_began = 0.0
    _grace_is_short = False
    _waited_at = -1
    _replaying = False
    _awaited = 0
    _sent: Lane | None = None
    _leaves: tuple[Position, bool] | None = None
    _moved_at = 0.0
    _busy_since = 0.0
    _suspected_at = -1
    _drained = 0
    _drain_steps = 0
    _collects = False

    def __init__(self, *args: Any, **options: Any) -> None:
        self.looks_into_threads: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
        self.workers: Workers | None = None
        self.outside = Outside()
        self._sleeps: weakref.WeakKeyDictionary[asyncio.Future[Any], tuple[float, asyncio.TimerHandle]]
        self._sleeps = weakref.WeakKeyDictionary()
        self._held: list[WatchedTransport] = []
        self._left: deque[tuple[bool, asyncio.Handle]] = deque()
        self._early: list[tuple[int, asyncio.Task[Any]]] = []
        self._alarm = Alarm(super().call_later)  # type: ignore[misc]
        self._readers = Watches(super().add_reader, super().remove_reader)  # type: ignore[misc]
        self._writers = Watches(super().add_writer, super().remove_writer)  # type: ignore[misc]
        super().__init__(*args, **options)

    # -- time: virtual for what a gated step asks for, real for all else -----------------------------

    def time(self) -> float:
        """Virtual seconds inside a gated step, the loop's own elsewhere."""
        return self._clock.now if self._in_step else super().time()  # type: ignore[misc]

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Set a timer on the virtual clock inside a gated step, on the real one elsewhere."""
        if not self._in_step:
            return super().call_at(when, callback, *args, context=context)  # type: ignore[misc, no-any-return]
        return self._clock.set(when, callback, args, self, context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """As ``call_at``, from now."""
        if self._in_step:
            return self._clock.set(self._clock.now + max(0.0, delay), callback, args, self, context)
        timer: asyncio.TimerHandle = super().call_later(delay, callback, *args, context=context)  # type: ignore[misc]
        if callback is _WAKES_A_SLEEPER and args:
            self._sleeps[args[0]] = (delay, timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        # Virtual timers were never counted as scheduled, and uvloop has no such method at all.
        told = getattr(super(), "_timer_handle_cancelled", None)
        if told is not None and getattr(handle, "_scheduled", False):
            told(handle)

    def _take_over_sleeps(self, main: asyncio.Task[object] | None) -> None:
        """Let tasks that slept before the run sleep on the virtual clock: when they wake is a choice, too."""
        for future, (delay, timer) in list(self._sleeps.items()):
            woken = {getattr(callback, "__self__", None) for callback, _ in future._callbacks or ()}
            if future.done() or not woken or main in woken:
                continue
            timer.cancel()
            self._clock.set(self._clock.now + delay, _WAKES_A_SLEEPER, (future, None), self, None)
        self._sleeps.clear()

    # -- what passes, and what waits -----------------------------------------------------------------

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        """Put a task's step into its lane; let everything else pass."""
        turns = self._turns
        if turns is None:
            return super().call_soon(callback, *args, context=context)  # type: ignore[misc, no-any-return]
        task = getattr(callback, "__self__", None)
        if isinstance(task, asyncio.Task):
            lane = turns.lane_of(task, context)
            if lane is None:
                return super().call_soon(callback, *args, context=context)  # type: ignore[misc, no-any-return]
            handle = asyncio.Handle(callback, args, self, context)  # type: ignore[arg-type]
            if not lane.steps:
                lane.since = turns.tick
                turns.woken = lane
            lane.steps.append(handle)
            if lane.user == APP and (self._serving or not self._in_step):
                lane.serves = lane.served = True
            if not self._pumping:
                self._pumping = True
                if not self._hearing:
                    super().call_soon(self._pump)  # type: ignore[misc]
            return handle
        if self._in_step:
            # What a step leaves to a callback is the step's doing: its timers are virtual as well.
            handle = asyncio.Handle(callback, args, self, context)  # type: ignore[arg-type]
            if self._is_within:
                self._left.append((self._serving, handle))
            else:
                super().call_soon(self._virtually, self._serving, handle)  # type: ignore[misc]
            return handle
        return super().call_soon(callback, *args, context=context)  # type: ignore[misc, no-any-return]

    def _virtually(self, serving: bool, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        if self._turns is None:
            handle._run()
            return
        self._in_step, self._serving = True, serving
        try:
            handle._run()
        finally:
            self._in_step = self._serving = False

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run in a worker thread, and let it know the current user.

        Nothing else of the caller's context goes along, since nothing would without the harness: what an
        application loses or keeps in its threads is for the oracles to find.
        """
        if USER.get() is not None:
            if self.looks_into_threads is not None:
                func = self.looks_into_threads(func)
            func = _as_user(USER.get(), CURRENT.get(), func)
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)  # type: ignore[misc]
        if future.done():
            # From Python 3.14 on nobody waits for what ended at once: that must not hang on how fast a thread is.
            ended, future = future, super().create_future()  # type: ignore[misc]
            self.call_soon(_hand_on, ended, future)
        self.outside.stirred += 1
        self.outside.jobs += 1
        future.add_done_callback(self._job_ended)
        if executor is None and self.workers is not None:
            self.workers.awaited(future)
        return future

    def _job_ended(self, _future: object) -> None:
        self.outside.jobs -= 1
        self.outside.heard_at = time.monotonic()

    def set_task_factory(self, factory: Any) -> None:
        """Refuse eager tasks: their first step would never pass the gate."""
        if factory is not None and "eager_task_factory" in getattr(factory, "__qualname__", ""):
            self.saw_eager_tasks = True
            return
        super().set_task_factory(factory)  # type: ignore[misc]

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Start a task lazily, also where an eager start was asked for."""
        if options.pop("eager_start", False):
            self.saw_eager_tasks = True
        task: asyncio.Task[Any] = super().create_task(coro, **options)  # type: ignore[misc]
        if self._turns is None and (user := _user_in(options.get("context"))) is not None:
            self._early.append((user, task))
        if not self.saw_eager_tasks and self.get_task_factory() is not None:  # type: ignore[attr-defined]
            began = inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) != inspect.CORO_CREATED
            self.saw_eager_tasks = began  # a factory of the application's own that starts tasks eagerly
        return task

    def stop(self) -> None:
        """As the loop's own; not for a call of the application, whose run would end without a word."""
        if self._in_step:
            raise RuntimeError(
                "a call of the application stopped the event loop, in which its server runs, too"
            )
        super().stop()  # type: ignore[misc]

    # -- sockets -------------------------------------------------------------------------------------

    def note_sent(self, transport: Connection) -> None:
        """Take down that a step sent something: a reply is owed, and the connection is in use."""
        self.outside.sent(transport)
        if self._in_step and self._turns is not None:
            self._turns.sent_over = transport
            user = USER.get()
            if user is not None and isinstance(transport, WatchedTransport):
                transport.sent_by(user)

    def holds_back(self, transport: WatchedTransport) -> bool:
        """Whether what came over a connection stays in the socket, since who sent over it has yet to wait for it.

        A fast server's reply would else be there before it is asked for, and the call would not wait at all: whether
        it can be cut off there must not hang on how fast a server is.
        """
        turns = self._turns
        if turns is None or turns.stopped is not None or not self._is_early(turns, transport):
            return False
        self._held.append(transport)
        return True

    def _is_early(self, turns: Turns, transport: WatchedTransport) -> bool:
        is_early = False
        for lane in turns.lanes.values():
            if lane.user not in transport.senders or lane.task.done():
                continue
            if lane.steps:
                is_early = True
            elif self._is_outside(lane):
                return False
        return is_early

    def _let_in(self, turns: Turns | None) -> None:
        held, self._held = self._held, []
        for transport in held:
            if turns is not None and self._is_early(turns, transport):
                self._held.append(transport)
            else:
                transport.read_on()

    def hear(self, read: Callable[[], None]) -> None:
        """Read from a socket, and let whoever that wakes go on at once, where nothing else is due before."""
        if self._pumping or self._turns is None:
            read()
            return
        self._hearing = True
        try:
            read()
        finally:
            self._hearing = False
            if self._pumping:
                if getattr(self, "_ready", None):
                    super().call_soon(self._pump)
                else:
                    self._pump()

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        """As the loop's own; what a step watches is the connection in use."""
        self._watch(self._readers, fd, callback, args)

    def remove_reader(self, fd: Any) -> bool:
        """As the loop's own."""
        return self._readers.remove(fd)

    def add_writer(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        """As ``add_reader``."""
        self._watch(self._writers, fd, callback, args)

    def remove_writer(self, fd: Any) -> bool:
        """As the loop's own."""
        return self._writers.remove(fd)

    def _watch(
        self, watches: Watches, fd: Any, callback: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        self.outside.has_sockets = True
        self.outside.stirred += 1
        turns = self._turns if self._in_step else None
        if turns is not None:
            turns.sent_over = WatchedSocket(fd)
        watches.add(turns, fd, self._heard, (callback, args))

    def _heard(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.outside.heard_at = time.monotonic()
        callback(*args)

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        """As the loop's own."""
        self.outside.has_sockets = True
        self.outside.stirred += 1
        self.outside.jobs += 1
        try:
            return await super().create_connection(*args, **options)  # type: ignore[misc]
        finally:
            self.outside.jobs -= 1

    async def create_unix_connection(self, *args: Any, **options: Any) -> Any:
        """As the loop's own."""
        self.outside.has_sockets = True
        self.outside.stirred += 1
        self.outside.jobs += 1
        try:
            return await super().create_unix_connection(*args, **options)  # type: ignore[misc]
        finally:
            self.outside.jobs -= 1

    async def create_server(self, *args: Any, **options: Any) -> Any:
        """As the loop's own."""
        self.outside.has_sockets = True
        return await super().create_server(*args, **options)  # type: ignore[misc]

    async def create_datagram_endpoint(self, *args: Any, **options: Any) -> Any:
        """As the loop's own."""
        self.outside.has_sockets = True
        return await super().create_datagram_endpoint(*args, **options)  # type: ignore[misc]

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        """As the loop's own."""
        self.outside.has_sockets = True
        return await super().subprocess_exec(*args, **options)  # type: ignore[misc]

    # -- one run -------------------------------------------------------------------------------------

    async def let_early_tasks_rest(self) -> None:
        """Wait until what was started at sign-in, such as a listener, has come as far as it can.

        Whether the reply to a subscription came before the first call or after it would else be chance.
        """
        until = time.monotonic() + EARLY_REST
        turns_of_the_loop = 0
        while any(not task.done() for _, task in self._early) and turns_of_the_loop < MOST_DEFERRALS:
            if self.outside.owes and time.monotonic() < until:
                await asyncio.sleep(RECHECK / 10)
                turns_of_the_loop = 0
            else:
                await asyncio.sleep(0)
                turns_of_the_loop += 1

    def close_gate(self, turns: Turns) -> None:
        """Begin a run: from here on each task's step waits for its turn."""
        self._clock = VirtualClock(super().time())  # type: ignore[misc]
        self._turns = turns
        self._grace_is_over = False
        self._sent = self._leaves = None
        self._suspected_at = self._waited_at = -1
        self._moved_at = turns.ended_at = time.monotonic()
        self._drained = self._drain_steps = 0
        self._busy_since = 0.0
        self.draining = None
        self._take_over_sleeps(turns.main)
        # In the order in which they were made, and not in that of their first wake, which is chance.
        for user, task in self._early:
            if not task.done() and task is not turns.main:
                turns.add_lane(user, task)
        self._early.clear()
        # What the collector frees wakes finalizers, and when it runs is nobody's choice.
        self._collects = gc.isenabled()
        gc.disable()

    def open_gate(self) -> None:
        """End a run: what waits goes on in the loop's own order, and timers in real time."""
        turns, self._turns = self._turns, None
        self._alarm.end()
        self.draining = self._sent = None
        self._let_in(None)
        self._readers.went_on(None)
        self._writers.went_on(None)
        if turns is None:
            return
        if self._collects:
            gc.enable()
        for lane in turns.lanes.values():
            for handle in lane.steps:
                if not handle.cancelled():
                    super().call_soon(handle._run)  # type: ignore[misc]
        for delay, timer in self._clock.rest():
            super().call_later(delay, _unless_cancelled, timer)  # type: ignore[misc]

    def wake(self) -> None:
        """Look again who can go on."""
        if not self._pumping:
            self._pumping = True
            if not self._hearing:
                super().call_soon(self._pump)  # type: ignore[misc]

    def _others_first(self) -> bool:
        queue = getattr(self, "_ready", None)
        if queue is not None:
            return len(queue) > 0
        self._went_round += 1  # uvloop shows no queue: go round twice
        return self._went_round < 2

    def _pump(self) -> None:
        turns = self._turns
        again = False
        # Still true while steps run: what they queue is seen here, without another turn of the loop.
        self._pumping = self._is_within = True
        try:
            again = turns is not None and turns.stopped is None and self._go_on(turns)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as reason:  # the loop's own handler would swallow it
            if turns is not None:
                turns.stop(reason)
        finally:
            self._pumping = self._is_within = False
            while self._left:
                super().call_soon(self._virtually, *self._left.popleft())  # type: ignore[misc]
        if again:
            self.wake()

    def _go_on(self, turns: Turns) -> bool:
        """Let steps run; True when more may follow at the next turn of the loop."""
        for _ in range(MOST_INLINE):
            # What a step left to callbacks runs here, in its order, without a turn of the loop for each.
            while self._left and self._deferred < MOST_DEFERRALS:
                self._deferred += 1
                for _ in range(len(self._left)):
                    self._virtually(*self._left.popleft())
            if self._others_first() and self._deferred < MOST_DEFERRALS:
                self._deferred += 1
                return True
            self._deferred = self._went_round = 0
            turns.tick += 1
            if not self._turn(turns) or self._turns is not turns or turns.stopped is not None:
                return False
            while (
                turns.can_go_on
                and not turns.flying
                and self.draining is None
                and turns.stopped is None
                and turns.chooser.goes_together(turns.here)
                # In the recorded run this step waited out the grace of a blocked lane, and so had a tick for itself.
                and not turns.chooser.hides(turns.here)
            ):
                # Two steps in one tick: a loader that gathers requests until its callback runs would
                # otherwise never see two users at once. Only steps that were ready before: others must come
                # behind the callbacks of what woke them, such as the one that takes a socket off the loop.
                if not self._turn(turns, shared=True) or self._turns is not turns:
                    return False
        return True

    def _turn(self, turns: Turns, *, shared: bool = False) -> bool:
        """Let one step run, or arrange to be woken; True when a step ran."""
        ready: list[Lane] = []
        pending: list[Lane] = []
        ended: list[Lane] = []
        for lane in turns.lanes.values():
            steps = lane.steps
            while steps and steps[0]._cancelled:
                steps.popleft()
            if steps:
                if shared and (lane.since == turns.tick or lane.serves):
                    continue
                if lane.serves:
                    # A server inside this process must be able to answer: its steps are no choice.
                    self._step(turns, lane, chosen=False)
                    return True
                ready.append(lane)
            elif lane.task.done():
                ended.append(lane)
            elif lane.user != APP and self._is_outside(lane):
                pending.append(lane)
        for lane in ended:
            del turns.lanes[lane.task]
        if self._held:
            self._let_in(turns)
        if shared and not ready:
            turns.can_go_on = False
            return True
        is_due = bool(pending)
        hidden = turns.chooser.hides(turns.here)
        if hidden:
            if self._has_yet_to_block(turns, [lane for lane in pending if lane.key in hidden]):
                return False
            turns.hidden[turns.here] = tuple(sorted(hidden))
            pending = [lane for lane in pending if lane.key not in hidden]
            ready = [lane for lane in ready if lane.key not in hidden] or ready
        others = self._without_flying(turns, ready)
        if others is not None:
            ready, pending = others, []
        if pending and not self._grace_is_over:
            served = [lane for lane in ready if lane.user == APP]
            if served:
                self._step(turns, min(served, key=lambda lane: lane.number), chosen=False)
                return True
            if hidden is not None or not ready or not self._waited_before(turns, pending):
                # With nothing ready no choice hangs on it, and a replay need not wait for long.
                self._arm(turns, pending, replaying=hidden is not None and bool(ready))
                return False
            self._grace_is_over = True
        self._alarm.clear()
        if self._grace_is_over:
            self._grace_is_over = False
            self._waited_at = self.outside.stirred
            turns.known_blocked.update(lane.key for lane in pending)
            if pending and ready:
                turns.hidden[turns.here] = tuple(sorted(lane.key for lane in pending))
        if self.draining is not None:
            return self._drain(turns, ready)
        if not ready:
            return self._without_ready(turns, pending)
        if turns.steps >= turns.most_steps:
            turns.stop(Stuck.after_steps(turns.most_steps, turns.describe(), turns.unfinished))
            return False
        users = turns.natural(ready)
        if not is_due and self._clock.is_near(NEAR):
            users.append(CLOCK)
        user = turns.chooser.choose(turns.here, users) if len(users) > 1 else users[0]
        if user == CLOCK:
            turns.note_clock()
            self._fire()
            return True
        self._step(turns, turns.picked(user, ready), chosen=True)
        return True

    def _is_outside(self, lane: Lane) -> bool:
        """Whether a parked task may be woken from outside."""
        kind = lane.wait.kind
        return kind is _OUTSIDE or (kind is _UNCLEAR and self.outside.is_possible)

    def _has_yet_to_block(self, turns: Turns, held: list[Lane]) -> bool:
        """Whether lanes that were blocked in the record must reach the server first, in the same order."""
        if all(lane.key in turns.known_blocked for lane in held):
            return False
        if self._grace_is_over:
            self._grace_is_over = False
            turns.known_blocked.update(lane.key for lane in held)
            return False
        self._arm(turns, held, replaying=False)
        return True

    def _without_flying(self, turns: Turns, ready: list[Lane]) -> list[Lane] | None:
        """Who may go on while requests are in flight; None where replies are waited for.

        Whether a reply is already here is left out of account: that is chance.
        """
        sent = self._sent
        if sent is None:
            return None
        if self._leaves is None or self._leaves[0] != turns.here:
            self._leaves = (turns.here, turns.chooser.leaves_in_flight(turns.here))
        flying = turns.flying
        if self._leaves[1]:
            flying.add(sent.key)
            others = [lane for lane in ready if lane.key not in flying]
            if others:
                return others
        flying.clear()
        self._sent = None
        return None

    def _step(self, turns: Turns, lane: Lane, *, chosen: bool) -> None:
        handle = lane.steps.popleft()
        lane.moved()
        self._serving = lane.serves
        if not lane.steps:
            lane.serves = False
        turns.sent_over = None
        self._busy_since = time.monotonic()
        if chosen:
            turns.note_step(lane)
            if turns.known_blocked:
                turns.known_blocked.discard(lane.key)
            self._moved_at = self._busy_since
            if turns.before_step is not None:
                turns.before_step(lane)
        self._in_step = True
        try:
            handle._run()
        except SystemExit:
            pass  # its task has it too, and hands it on to whoever waits for that
        finally:
            self._in_step = self._serving = False
            self._busy_since = 0.0
        if self._readers.asleep:
            self._readers.went_on(lane)
        if self._writers.asleep:
            self._writers.went_on(lane)
        if self.busy:
            reason, self.busy = self.busy, ""
            turns.stop(Busy(reason, (lane.user,)))
            return
        # Asked once at each place: a server's answer that comes in between asks nothing anew.
        turns.can_go_on = False
        if chosen:
            if turns.after_step is not None:
                turns.after_step(lane)
            turns.can_go_on = turns.anybody_waited()
            if lane.user != APP:
                waits = not lane.steps and not lane.task.done() and self._is_outside(lane)
                self._sent = lane if waits else None

    def _fire(self) -> None:
        self._sent = None
        self._in_step = True
        self._busy_since = time.monotonic()
        try:
            self._clock.fire()
        finally:
            self._in_step = False
            self._busy_since = 0.0

    # -- nothing is ready ----------------------------------------------------------------------------

    def _without_ready(self, turns: Turns, pending: list[Lane]) -> bool:
        now = time.monotonic()
        waited = now - self._moved_at
        if getattr(self, "_ready", None):
            # Callbacks are still due: one of them may wake somebody.
            if waited <= turns.patience:
                self._look_again_in(0)
                return False
        elif self._clock.is_near(waited if pending or self._is_owed(waited) else float("inf")):
            # Virtual time never runs ahead of real time while a reply is due: a pool's time-out
            # would fire at once.
            silence = now - max(turns.ended_at, self.outside.heard_at)
            if pending and silence > turns.patience and hasattr(self, "_selector"):
                # Some drivers look up ten times a second while they wait; that is no progress.
                turns.stop(Stuck.waiting(silence, turns.describe(), turns.unfinished))
                return False
            if turns.steps >= turns.most_steps:
                turns.stop(Stuck.after_steps(turns.most_steps, turns.describe(), turns.unfinished))
                return False
            turns.steps += 1
            self._fire()
            return True
        live = [lane for lane in turns.lanes.values() if lane.user != APP and not lane.task.done()]
        if not live:
            return False  # the calls have ended, and whoever counts them knows
        users = turns.unfinished
        quiet = now - max(self._moved_at, self.outside.heard_at)
        if not pending and self._is_deadlock(live, quiet, turns.patience):
            if self._suspected_at != turns.steps:
                # A thread may have handed something in meanwhile; a turn of the loop shows it.
                self._suspected_at = turns.steps
                self._look_again_in(0)
                return False
            turns.stop(Deadlock.of(turns.describe(), users))
            return False
        if waited > turns.patience:
            turns.stop(Stuck.waiting(waited, turns.describe(), users))
            return False
        self._look_again_in(RECHECK)
        return False

    def _is_owed(self, waited: float) -> bool:
        """Whether a task of the application's own, such as a pool's, waits for a reply; not for ever."""
        return waited < OWED_PATIENCE and self.outside.owes

    def _is_deadlock(self, live: list[Lane], quiet: float, patience: float) -> bool:
        """Whether nothing can come any more: everybody waits for somebody, and nobody outside owes anything."""
        # An event or a queue may still be filled by a socket's callback; a lock only by its holder.
        locks = [lane for lane in live if lane.wait.kind is Kind.LOCK]
        if locks and all(
            lane.wait.kind is Kind.LOCK or isinstance(lane.task._fut_waiter, asyncio.Task)  # type: ignore[attr-defined]
            for lane in live
        ):
            return True
        if self.outside.owes or self._has_real_timer(patience):
            return False
        if not self.outside.has_sockets:
            return True
        return quiet >= (QUIET if hasattr(self, "_selector") else UNSEEN_QUIET)

    def _has_real_timer(self, within: float) -> bool:
        """Whether a timer that was set outside of the run's steps will still go off in so many seconds.

        Pools leave timers of minutes behind when their world has ended.
        """
        last = time.monotonic() + within
        return any(
            not timer.cancelled() and timer is not self._alarm.timer and timer.when() <= last
            for timer in getattr(self, "_scheduled", ())
        )

    def _look_again_in(self, seconds: float) -> None:
        if not self._alarm.is_set:
            self._alarm.set(seconds, self.wake)

    def _drain(self, turns: Turns, ready: list[Lane]) -> bool:
        """Between two stages: background work of the calls comes to rest, in the natural order."""
        if ready and self._drain_steps < MOST_DRAIN_STEPS:
            self._drain_steps += 1
            self._step(turns, turns.lane_for(turns.natural(ready)[0], ready), chosen=True)
            return True
        if not ready and self._drained < DRAIN_TIMERS and self._clock.is_near(DRAIN_REACH):
            self._drained += 1
            self._fire()
            return True
        at_rest, self.draining = self.draining, None
        self._drained = self._drain_steps = 0
        if at_rest is not None:
            at_rest()
        return True

    # -- replies that are due ------------------------------------------------------------------------

    def _listen_only(self, turns: Turns) -> bool:
        """Whether those who are parked wait for what others may publish, and not for a reply or a lock of a server."""
        return turns.blocked is None and hasattr(self, "_selector") and not self.outside.owes

    def _waited_before(self, turns: Turns, pending: list[Lane]) -> bool:
        """Whether these were given their time, and nothing went out since: what should they be told now?

        Who listens for what others publish would else hold up every step of theirs.
        """
        return (
            not self._alarm.is_set
            and self._waited_at == self.outside.stirred
            and self._listen_only(turns)
            and all(lane.key in turns.known_blocked for lane in pending)
        )

    def _arm(self, turns: Turns, pending: list[Lane], *, replaying: bool) -> None:
        self._awaited = len(pending)  # fewer than before, where one was answered meanwhile
        # Patience that was in vain once shows that this is not the recorded run: more of it would take minutes.
        replaying = replaying and not turns.has_strayed
        are_known = not replaying and all(lane.key in turns.known_blocked for lane in pending)
        # The one whose reply was waited for may have it, and those who are left were given their time before.
        if self._alarm.is_set and (not are_known or self._grace_is_short or not self._listen_only(turns)):
            return
        self._grace_is_short = are_known
        if are_known:
            seconds = SHORT_GRACE
        elif replaying:
            seconds = turns.patience
        elif turns.blocked is not None:
            seconds = FIRST_QUESTION
        else:
            seconds = turns.grace
        self._alarm.set(seconds, self._grace_ended)
        if self._eager is not None:
            self._eager.expects_reply = True
        self._grace_began = time.monotonic()
        self._replaying = replaying

    def _grace_ended(self) -> None:
        turns = self._turns
        if turns is None:
            return
        if turns.blocked is not None and not self._replaying:
            # The server knows better than a clock: a slow reply is not a lock held by a parked user.
            waited = time.monotonic() - self._grace_began
            most = 10 * turns.grace if self._may_be_due(turns) else turns.grace
            if waited < most and turns.blocked() < self._awaited:
                again = min(turns.grace, 2 * waited)
                self._alarm.set(again, self._grace_ended)
                return
        turns.has_strayed = turns.has_strayed or self._replaying
        self._grace_is_over = True
        self.wake()

    def _may_be_due(self, turns: Turns) -> bool:
        """Whether a reply may still come: where none is due, a plain future is most often another task's to give."""
        return (
            not hasattr(self, "_selector")
            or self.outside.owes
            or any(
                not lane.steps and not lane.task.done() and lane.wait.kind is Kind.OUTSIDE
                for lane in turns.lanes.values()
            )
        )

    @property
    def busy_for(self) -> float:
        """Seconds that the running step has taken so far; 0 between steps."""
        since = self._busy_since
        return time.monotonic() - since if since else 0.0


class GateLoop(Gate, asyncio.SelectorEventLoop):  # type: ignore[misc]
    """The gate over the standard selector loop."""

    def __init__(self) -> None:
        self._eager = EagerSelector()
        super().__init__(self._eager)

    def _make_socket_transport(
        self, sock: Any, protocol: Any, waiter: Any = None, *, extra: Any = None, server: Any = None,
        **options: Any,
    ) -> Any:  # fmt: skip
        # Accepted connections come by here, too.
        return WatchedTransport(self, sock, protocol, waiter, extra, server, **options)


def new_loop(kind: str = "asyncio") -> Any:
    """Make a gate loop.

    Args:
        kind: ``"asyncio"`` (default) or ``"uvloop"``, where that is installed.

    Returns:
        An event loop that is also a ``Gate``.
    """
    if kind == "uvloop":
        import uvloop

        class UvloopGateLoop(Gate, uvloop.Loop):  # type: ignore[misc]
            """The gate over uvloop."""

        return UvloopGateLoop()
    return GateLoop()


def _user_in(context: Context | None) -> int | None:
    """The user whose code a task runs."""
    return USER.get() if context is None else context.get(USER)


def _as_user(
    user: int | None, context: UserExecutionContext | None, func: Callable[..., Any]
) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        acting, current = USER.set(user), CURRENT.set(context)
        try:
            return func(*args)
        finally:
            CURRENT.reset(current)
            USER.reset(acting)

    return run


def _hand_on(ended: asyncio.Future[Any], waited_for: asyncio.Future[Any]) -> None:
    if not waited_for.done():
        futures._copy_future_state(ended, waited_for)  # type: ignore[attr-defined]


def _unless_cancelled(timer: asyncio.TimerHandle) -> None:
    if not timer.cancelled():
        timer._run()
