"""Runs scripts from equal starts, each with ids of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_ssot_isolation.engine.choosers import (
    Alongside,
    Following,
    Laggard,
    Projected,
    RandomWalk,
    Recorded,
)
from pytest_ssot_isolation.engine.faults import Faults
from pytest_ssot_isolation.engine.heap import Collector
from pytest_ssot_isolation.engine.run import Run, Terms
from pytest_ssot_isolation.engine.script import Nonces, Pace, Script
from pytest_ssot_isolation.errors import Refused
from pytest_ssot_isolation.model.schedule import Fault, Schedule
from pytest_ssot_isolation.oracles.noninterference import View

if TYPE_CHECKING:
    from pytest_ssot_isolation.engine.lanes import Chooser
    from pytest_ssot_isolation.engine.start import Starts
    from pytest_ssot_isolation.engine.tally import Tally
    from pytest_ssot_isolation.model.history import History


class Attempts:
    """Performs scripts.

    Args:
        terms: What holds for every run.
        starts: Gives each run the same start.
        tally: Counts what the application refused.
        seed: Fixes the letters of the ids.
        collector: Runs between two runs.
    """

    def __init__(
        self, terms: Terms, starts: Starts, tally: Tally, seed: int, collector: Collector | None = None
    ) -> None:
        self.terms = terms
        self._starts = starts
        self._tally = tally
        self._nonces = Nonces(seed)
        self._collector = collector or Collector()

    async def perform(
        self,
        script: Script,
        chooser: Chooser,
        faults: Sequence[Fault] = (),
        stand_ins: Mapping[tuple[int, str], object] | None = None,
        *,
        sites: bool = False,
        moments: Mapping[int, float] | None = None,
    ) -> View | None:
        """Run a script from an equal start; None where the application refused an id.

        Raises:
            Expectation: An assertion of the surface's author failed.
            SurfaceError: The surface or the world cannot be used.
        """
        self._collector.run_if_due()
        nonce = self._nonces.fresh()
        cast = script.plan.cast(nonce)
        if self.terms.acting is not None:
            self.terms.acting(cast.contexts)
        async with self._starts.fresh() as world:
            ordered = Faults(faults, self.terms.gone)
            run = Run(script, cast, world, self.terms, chooser, ordered, stand_ins, sites=sites, pace=moments)
            try:
                return View(history=await run.perform(), nonce=nonce)
            except Refused:
                family = cast.families[run.opening]
                self._tally.refusals += 1
                if family not in ("base", "plain"):
                    self._tally.refused[family] = None
                return None

    async def again(
        self,
        script: Script,
        schedule: Schedule,
        *,
        strict: bool = False,
        order: Sequence[tuple[int, int, int]] = (),
    ) -> View | None:
        """Run a script under a schedule that was written down.

        Args:
            script: The script.
            schedule: Its choices and faults.
            strict: Whether it is the recorded run itself.
            order: The steps of a run with more calls, whose order those that are left keep; empty for the anchors
                and picks of the schedule.
        """
        chooser: Chooser = Recorded(schedule, strict=strict)
        if order:
            chooser = Following(order, frozenset(call.id for call in script.program.calls), schedule)
        return await self.perform(script, chooser, schedule.faults, sites=strict)

    async def without(self, script: Script, full: History, *, pace: Pace | None = None) -> View | None:
        """Run what is left of a script, in the order that it had beside the others.

        Args:
            script: The script without some calls.
            full: The run with all of them.
            pace: When its calls begin; None for at once.
        """
        calls = frozenset(call.id for call in script.program.calls)
        stand_ins = {
            (call, name): value
            for call, bound in full.bound.items()
            for name, value in bound.arguments
            if name in dict(bound.references)
        }
        faults = [fault for fault in full.schedule.faults if fault.call in calls]
        chooser: Chooser = Projected(full.path, calls)
        if pace is None:
            return await self.perform(script, chooser, faults, stand_ins)
        if pace.alongside:
            chooser = Alongside(full.path, calls, to_rest=pace.alongside == "rest")
        elif pace.walk is not None:
            chooser = (Laggard if pace.is_slow else RandomWalk)(pace.walk)
        moments = {call: at * pace.share + pace.lag for call, at in full.moments.items() if call in calls}
        return await self.perform(script, chooser, faults, stand_ins, moments=moments)
