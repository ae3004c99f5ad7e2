"""An event loop that lets one step of one user's task run at a time, chosen by a schedule.

Only ``call_soon``, ``call_at``, ``call_later``, ``time``, ``run_in_executor`` and the making of tasks are
overridden, so the same mixin works over the standard selector loop and over uvloop. Coroutines are not
stepped by hand: that would break ``current_task``, ``asyncio.timeout``, task groups and cancel scopes.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.engine.clock import VirtualClock
from pytest_ssot_isolation.engine.lanes import USER, Lane, Turns
from pytest_ssot_isolation.engine.waits import Kind
from pytest_ssot_isolation.errors import Deadlock, Stuck
from pytest_ssot_isolation.model.schedule import APP, CLOCK, Position

if TYPE_CHECKING:
    from collections.abc import Callable

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
NEAR = 30.0
# Timers that are fired, and their reach in seconds, before the next stage begins.
DRAIN_TIMERS = 8
DRAIN_REACH = 1.0
MOST_DRAIN_STEPS = 500


class Gate:
    """Mixin for an event loop: steps of tasks wait here until the schedule lets them go on."""

    _turns: Turns | None = None
    _pumping = False
    _deferred = 0
    _in_step = False
    _jobs = 0
    _went_round = 0
    _grace_timer: asyncio.TimerHandle | None = None
    _grace_is_over = False
    _asked_at: Position | None = None
    _moved_at = 0.0
    _drained = 0
    _drain_steps = 0
    draining: Callable[[], None] | None = None
    saw_eager_tasks = False

    # -- time: virtual for what a gated step asks for, real for all else -----------------------------

    def time(self) -> float:
        """Virtual seconds inside a gated step, the loop's own elsewhere."""
        return self._clock.now if self._in_step else super().time()  # type: ignore[misc, no-any-return]

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
        if not self._in_step:
            return super().call_later(delay, callback, *args, context=context)  # type: ignore[misc, no-any-return]
        return self._clock.set(self._clock.now + max(0.0, delay), callback, args, self, context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        # Virtual timers were never counted as scheduled, and uvloop has no such method at all.
        told = getattr(super(), "_timer_handle_cancelled", None)
        if told is not None and getattr(handle, "_scheduled", False):
            told(handle)

    # -- what passes, and what waits -----------------------------------------------------------------

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        """Put a task's step into its lane; let everything else pass."""
        turns = self._turns
        if turns is not None:
            task = getattr(callback, "__self__", None)
            if isinstance(task, asyncio.Task):
                lane = turns.lane_of(task, context)
                if lane is not None:
                    handle = asyncio.Handle(callback, args, self, context)  # type: ignore[arg-type]
                    lane.steps.append(handle)
                    self._kick()
                    return handle
        return super().call_soon(callback, *args, context=context)  # type: ignore[misc, no-any-return]

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run in a worker thread, in the caller's context: the current user goes along."""
        if USER.get() is not None:
            func = _in_context(contextvars.copy_context(), func)
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)  # type: ignore[misc]
        self._jobs += 1
        future.add_done_callback(self._job_ended)
        return future

    def _job_ended(self, _future: object) -> None:
        self._jobs -= 1

    def set_task_factory(self, factory: Any) -> None:
        """Refuse eager tasks: their first step would never pass the gate."""
        if factory is not None and factory is getattr(asyncio, "eager_task_factory", object()):
            self.saw_eager_tasks = True
            return
        super().set_task_factory(factory)  # type: ignore[misc]

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Start a task lazily, also where an eager start was asked for."""
        if options.pop("eager_start", False):
            self.saw_eager_tasks = True
        return super().create_task(coro, **options)  # type: ignore[misc, no-any-return]

    # -- one run -------------------------------------------------------------------------------------

    def close_gate(self, turns: Turns) -> None:
        """Begin a run: from here on each task's step waits for its turn."""
        self._clock = VirtualClock(super().time())  # type: ignore[misc]
        self._turns = turns
        self._grace_is_over = False
        self._asked_at = None
        self._moved_at = time.monotonic()
        self._drained = self._drain_steps = 0
        self._busy_since = 0.0
        self.draining = None

    def open_gate(self) -> None:
        """End a run: what waits goes on in the loop's own order, and timers in real time."""
        turns, self._turns = self._turns, None
        self._disarm()
        self.draining = None
        if turns is None:
            return
        for lane in turns.lanes.values():
            for handle in lane.steps:
                if not handle.cancelled():
                    super().call_soon(handle._run)  # type: ignore[misc]
        for delay, timer in self._clock.rest():
            super().call_later(delay, _unless_cancelled, timer)  # type: ignore[misc]

    def _kick(self) -> None:
        if not self._pumping:
            self._pumping = True
            super().call_soon(self._pump)  # type: ignore[misc]

    def _others_first(self) -> bool:
        queue = getattr(self, "_ready", None)
        if queue is not None:
            return len(queue) > 0
        self._went_round += 1  # uvloop shows no queue: go round twice
        return self._went_round < 2

    def _pump(self) -> None:
        self._pumping = False
        turns = self._turns
        if turns is None or turns.stopped is not None:
            return
        for _ in range(MOST_INLINE):
            if self._others_first():
                if self._deferred < MOST_DEFERRALS:
                    self._deferred += 1
                    self._kick()
                    return
            self._deferred = self._went_round = 0
            if not self._turn(turns) or self._turns is not turns or turns.stopped is not None:
                return
            while turns.stopped is None and self.draining is None and turns.chooser.goes_together(turns.here):
                # Two steps in one tick: a loader that gathers requests until its callback runs would
                # otherwise never see two users at once.
                if not self._turn(turns) or self._turns is not turns:
                    return
        self._kick()

    def _turn(self, turns: Turns) -> bool:
        """Let one step run, or arrange to be woken; True when a step ran."""
        ready: list[Lane] = []
        pending: list[Lane] = []
        for task in list(turns.lanes):
            lane = turns.lanes[task]
            if task.done():
                del turns.lanes[task]
                continue
            while lane.steps and lane.steps[0].cancelled():
                lane.steps.popleft()
            if lane.steps:
                ready.append(lane)
            elif lane.user != APP:
                kind = lane.wait.kind
                if kind is Kind.OUTSIDE or (kind is Kind.UNCLEAR and self._outside_is_possible()):
                    pending.append(lane)
        hidden = turns.chooser.hides(turns.here)
        if hidden:
            pending = [lane for lane in pending if lane.key not in hidden]
            ready = [lane for lane in ready if lane.key not in hidden] or ready
        if pending and not self._grace_is_over:
            served = [lane for lane in ready if lane.user == APP]
            if served:
                # A server inside this process must be able to answer: its steps are no choice.
                self._step(turns, min(served, key=lambda lane: lane.number), chosen=False)
                return True
            if not (ready and self._leaves_in_flight(turns)):
                # With nothing ready no choice hangs on it, and a replay need not wait for long.
                self._arm(turns, pending, replaying=hidden is not None and bool(ready))
                return False
        self._disarm()
        if self._grace_is_over:
            self._grace_is_over = False
            turns.known_blocked.update(lane.key for lane in pending)
            if pending and ready:
                turns.hidden.append((turns.here, tuple(sorted(lane.key for lane in pending))))
        if self.draining is not None:
            return self._drain(turns, ready, pending)
        if not ready:
            return self._without_ready(turns, pending)
        if turns.steps >= turns.most_steps:
            turns.stop(Stuck.after_steps(turns.most_steps, turns.describe()))
            return False
        users = turns.natural(ready)
        offer_clock = not pending and self._clock.is_near(NEAR)
        if offer_clock:
            users.append(CLOCK)
        try:
            user = turns.chooser.choose(turns.here, users) if len(users) > 1 else users[0]
        except BaseException as reason:  # it would be swallowed by the loop's own handler
            turns.stop(reason)
            return False
        if user == CLOCK:
            turns.note_clock()
            self._fire()
            return True
        self._step(turns, turns.lane_for(user, ready), chosen=True)
        return True

    def _leaves_in_flight(self, turns: Turns) -> bool:
        if self._asked_at == turns.here:
            return False
        self._asked_at = turns.here
        return turns.chooser.leaves_in_flight(turns.here)

    def _step(self, turns: Turns, lane: Lane, *, chosen: bool) -> None:
        if turns.sites is not None and chosen:
            turns.sites.append((lane.user, lane.wait.site))
        handle = lane.steps.popleft()
        lane.moved()
        if chosen:
            turns.note_step(lane)
            turns.known_blocked.discard(lane.key)
            self._moved_at = time.monotonic()
            turns.before_step(lane)
        self._in_step = True
        self._busy_since = time.monotonic()
        try:
            handle._run()
        finally:
            self._in_step = False
            self._busy_since = 0.0
        if chosen:
            turns.after_step(lane)

    def _fire(self) -> None:
        self._in_step = True
        try:
            self._clock.fire()
        finally:
            self._in_step = False

    # -- nothing is ready ----------------------------------------------------------------------------

    def _without_ready(self, turns: Turns, pending: list[Lane]) -> bool:
        waited = time.monotonic() - self._moved_at
        if not pending and self._clock.is_near():
            self._fire()
            return True
        if pending and self._clock.is_near(waited):
            # Virtual time never runs ahead of real time while a reply is due: a pool's time-out
            # would fire at once.
            self._fire()
            return True
        live = [lane for lane in turns.lanes.values() if lane.user != APP and not lane.task.done()]
        if not live:
            return False  # the calls have ended, and whoever counts them knows
        users = tuple(sorted({lane.user for lane in live}))
        # An event or a queue may still be filled by a socket's callback; a lock only by its holder.
        only_locks = any(lane.wait.kind is Kind.LOCK for lane in live) and all(
            lane.wait.kind is Kind.LOCK or isinstance(lane.task._fut_waiter, asyncio.Task)  # type: ignore[attr-defined]
            for lane in live
        )
        if not pending and (only_locks or not self._outside_is_possible()):
            turns.stop(Deadlock.of(turns.describe(), users))
            return False
        if waited > turns.patience:
            turns.stop(Stuck.waiting(waited, turns.describe(), users))
            return False
        if self._grace_timer is None:
            self._grace_timer = super().call_later(turns.grace, self._grace_ended)  # type: ignore[misc]
        return False

    def _drain(self, turns: Turns, ready: list[Lane], pending: list[Lane]) -> bool:
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

    # -- the outside world ---------------------------------------------------------------------------

    def _outside_is_possible(self) -> bool:
        """Whether anything but a task could still end a wait: a socket, a job, another thread."""
        if self._jobs > 0:
            return True
        selector = getattr(self, "_selector", None)
        if selector is None:
            return True  # uvloop does not tell
        if len(selector.get_map()) > 1:  # one is the loop's own pipe
            return True
        return threading.active_count() > self.own_threads

    own_threads = 1
    """Threads that were alive before the application ran, and cannot wake its tasks."""

    def _arm(self, turns: Turns, pending: list[Lane], *, replaying: bool) -> None:
        if self._grace_timer is not None:
            return
        if replaying:
            seconds = turns.patience
        elif all(lane.key in turns.known_blocked for lane in pending):
            seconds = SHORT_GRACE
        elif turns.blocked is not None:
            seconds = FIRST_QUESTION
        else:
            seconds = turns.grace
        self._grace_timer = super().call_later(seconds, self._grace_ended)  # type: ignore[misc]
        self._grace_began = time.monotonic()
        self._replaying = replaying

    _grace_began = 0.0
    _busy_since = 0.0
    _replaying = False

    def _grace_ended(self) -> None:
        self._grace_timer = None
        turns = self._turns
        if turns is None:
            return
        if turns.blocked is not None and not self._replaying:
            # The server knows better than a clock: a slow reply is not a lock held by a parked user.
            waited = time.monotonic() - self._grace_began
            if waited < 10 * turns.grace and not turns.blocked():
                again = min(turns.grace, 2 * waited)
                self._grace_timer = super().call_later(again, self._grace_ended)  # type: ignore[misc]
                return
        self._grace_is_over = True
        self._kick()

    def _disarm(self) -> None:
        if self._grace_timer is not None:
            self._grace_timer.cancel()
            self._grace_timer = None

    @property
    def busy_for(self) -> float:
        """Seconds that the running step has taken so far; 0 between steps."""
        since = self._busy_since
        return time.monotonic() - since if since else 0.0


class GateLoop(Gate, asyncio.SelectorEventLoop):
    """The gate over the standard selector loop."""


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


def _in_context(context: contextvars.Context, func: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        return context.run(func, *args)

    return run


def _unless_cancelled(timer: asyncio.TimerHandle) -> None:
    if not timer.cancelled():
        timer._run()
