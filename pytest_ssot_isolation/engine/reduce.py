"""Makes a failing example small: users, calls, choices, faults, values; never another bug."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, permutations, product
from typing import TypeAlias, TypeVar

from pytest_ssot_isolation.engine.script import Script
from pytest_ssot_isolation.generation.casts import CastPlan
from pytest_ssot_isolation.model.program import Call, Form, Key, Person, Program, Result, Value
from pytest_ssot_isolation.model.schedule import APP, NATURAL, Anchor, Pick, Schedule

LEAST_RUNS = 40
"""Runs of a reduction that its seconds do not cut short."""

MOST_PATIENCE = 30.0
"""Seconds after which even those are."""

SMALL = 8
"""Calls of an example that is small enough to try every schedule with a switch or two."""

MOST_SWITCHES = 2

FEW = ((0, 1), (1, 1), (0, 2), (1, 2), (2, 1), (2, 2))
"""Calls that are tried beside those of which a finding tells, and switches, before anything larger is kept."""

SEARCH_SECONDS, SEARCH_PATIENCE = 2.5, 5.0
"""Seconds of processor time that the search from below takes at most, and by the clock: beside other work on the
same machine it does not come off worse."""

MOST_PERMUTED = 3
"""Users whose every order is tried; of more, each is tried as the first."""

DEEPEST = 4
"""Steps of a call at which such a switch is tried."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Example:
    """A script and the schedule under which it was run.

    Attributes:
        script: What was done.
        schedule: The choices.
        path: For each step of that run its user, that user's call, and the number of the user's task.
    """

    script: Script
    schedule: Schedule
    path: tuple[tuple[int, int, int], ...] = field(default=(), compare=False, repr=False)

    @property
    def size(self) -> tuple[int, int, int, int]:
        """Calls, users, choices and faults: what the reduction makes small, in this order."""
        chosen = self.schedule
        choices = len(chosen.anchors) + len(chosen.in_flight) + len(chosen.together) + len(chosen.picks)
        users = len(self.script.surfaces)
        return (len(self.script.program.calls), users, choices, len(chosen.faults))


Test: TypeAlias = Callable[[Example, bool], Awaitable[Example | None]]
"""Runs an example, under its schedule or, where that is asked for, in the order of its path as far as that is left;
gives it back as it was made when the same finding came, else None."""


class Reducer:
    """Greedy passes to a fixed point.

    Args:
        test: Tells whether a candidate still shows the same finding.
        seconds: Time after which the smallest example so far is taken.
        most_runs: Runs after which it is taken.
        patience: Seconds after which it is taken however few runs there were.
    """

    def __init__(
        self, test: Test, *, seconds: float = 8.0, most_runs: int = 12_000, patience: float = MOST_PATIENCE
    ) -> None:
        self._test = test
        self._began = time.monotonic()
        self._seconds = seconds
        self._left = most_runs
        self._until: tuple[float, float] | None = None
        self._patience = min(patience, MOST_PATIENCE)
        self.runs = 0

    @property
    def is_out_of_time(self) -> bool:
        """Whether the reduction ends early; a slow application gets some runs all the same."""
        # The search from below has seconds of its own: of what was cut short, it alone may make something to read.
        now = time.monotonic()
        if self._left <= 0 or now - self._began >= self._patience:
            return True
        if self._until is None:
            return now - self._began >= self._seconds and self.runs >= LEAST_RUNS
        busy, clock = self._until
        return time.process_time() >= busy or now >= clock

    async def reduce(
        self, example: Example, first: Sequence[int] = (), shown: int = -1, evidence: Sequence[int] = ()
    ) -> Example:
        """Make an example small.

        Args:
            example: It fails.
            first: Users who matter most, victim and offender: all others are dropped at once if
                that is possible.
            shown: Id of the call at which it showed.
            evidence: Ids of the calls that carried in what showed.
        """
        self._seen: dict[object, bool] = {}
        for guess in _guesses(example, frozenset(first), shown, evidence):
            smaller = await self._try(example, guess)
            if smaller is not None:
                example = smaller
                break
        example = await self._in_natural_order(example)
        while not self.is_out_of_time:
            before = example.size
            example = await self._drop_users(example)
            example = await self._drop_calls(example)
            example = await self._drop_choices(example)
            example = await self._drop_faults(example)
            if example.size == before:
                break
        example = await self._drop_call_pairs(example)
        example = await self._merge_switches(example)
        example = await self._simplify(example)
        example = await self._drop_choices(example)
        return await self._search_below(example, frozenset({shown, *evidence}))

    async def _try(self, now: Example, candidate: Example) -> Example | None:
        made = await self._run(now, candidate, follows=False)
        if made is None and now.schedule.anchors and candidate.path and candidate.size[0] < now.size[0]:
            # A switch was lost with the call it stood in: the order of what is left can be had without it.
            made = await self._run(now, candidate, follows=True)
        return made

    async def _run(self, now: Example, candidate: Example, *, follows: bool) -> Example | None:
        if self.is_out_of_time or not candidate.script.program.calls:
            return None
        key = (
            candidate.script.program,
            candidate.schedule,
            candidate.script.plan,
            candidate.path if follows else None,
        )
        if self._seen.get(key):
            return None
        self._seen[key] = True
        self._left -= 1
        self.runs += 1
        made = await self._test(candidate, follows)
        return made if made is not None and made.size <= now.size else None

    async def _in_natural_order(self, example: Example) -> Example:
        """No switch at all, whoever begins: most leaks need an order and no race."""
        for turned in _turned(example):
            quiet = replace(turned, schedule=_quiet(turned.schedule))
            if (made := await self._try(example, quiet)) is not None:
                return made
        return example

    async def _drop_users(self, example: Example) -> Example:
        return await self._shorten(
            example, lambda e: e.script.program.users, lambda e, kept: _only_users(e, frozenset(kept))
        )

    async def _drop_calls(self, example: Example) -> Example:
        def without(current: Example, calls: tuple[Call, ...]) -> Example:
            program = replace(current.script.program, calls=calls)
            return replace(
                current, script=current.script.doing(program), schedule=_living(current.schedule, calls)
            )

        return await self._shorten(example, lambda e: e.script.program.calls, without)

    async def _drop_choices(self, example: Example) -> Example:
        def choices(current: Example) -> tuple[tuple[str, object], ...]:
            made = current.schedule
            named = [("anchor", a) for a in made.anchors]
            ticks = (*(("flight", p) for p in made.in_flight), *(("tick", p) for p in made.together))
            return (*named, *ticks, *(("pick", p) for p in made.picks))

        def with_only(current: Example, kept: tuple[tuple[str, object], ...]) -> Example:
            left = frozenset(kept)
            made = current.schedule
            return replace(
                current,
                schedule=replace(
                    made,
                    anchors=tuple(a for a in made.anchors if ("anchor", a) in left),
                    in_flight=tuple(p for p in made.in_flight if ("flight", p) in left),
                    together=tuple(p for p in made.together if ("tick", p) in left),
                    picks=tuple(p for p in made.picks if ("pick", p) in left),
                ),
            )

        return await self._shorten(example, choices, with_only)

    async def _drop_faults(self, example: Example) -> Example:
        for fault in example.schedule.faults:
            left = tuple(f for f in example.schedule.faults if f != fault)
            candidate = replace(example, schedule=replace(example.schedule, faults=left))
            example = await self._try(example, candidate) or example
        return example

    async def _drop_call_pairs(self, example: Example) -> Example:
        for pair in combinations(example.script.program.calls[:12], 2):
            calls = tuple(c for c in example.script.program.calls if c not in pair)
            if len(calls) + 2 != len(example.script.program.calls):
                continue  # one of them went with an earlier pair
            candidate = replace(
                example,
                script=example.script.doing(replace(example.script.program, calls=calls)),
                schedule=_living(example.schedule, calls),
            )
            example = await self._try(example, candidate) or example
        return example

    async def _search_below(self, example: Example, told: frozenset[int]) -> Example:
        """Look for something smaller from the other end: few calls first, then few switches.

        To drop a call also drops the places in it: where the order of two calls hung on a switch inside
        a third, nothing above can take that third away.
        """
        self._until = (time.process_time() + SEARCH_SECONDS, time.monotonic() + SEARCH_PATIENCE)
        example = await self._with_few_calls(example, told)
        if not _has_choices(example):
            return example  # One switch more is harder to read than one call more.
        switches = 1 if len(example.script.program.calls) <= SMALL else MOST_SWITCHES + 1
        while switches <= MOST_SWITCHES and not self.is_out_of_time:
            smaller = await self._with_switches(example, switches)
            example, switches = (smaller, 1) if smaller is not None else (example, switches + 1)
        return example

    async def _with_few_calls(self, example: Example, told: frozenset[int]) -> Example:
        """The smallest of those with a switch or two that keep the calls of which the finding tells."""
        calls = example.script.program.calls
        by_id = {call.id: call for call in calls}
        if not (told := told & by_id.keys()):
            return example
        kept = _with_what_it_refers_to(set(told), by_id)
        others = [call.id for call in calls if call.id not in kept]
        users = {by_id[call].user for call in kept}
        # A third user makes for three times as many orders: first come the calls of those who matter.
        few = FEW if _has_choices(example) else tuple(dict.fromkeys((more, 0) for more, _ in FEW))
        for brings_others, (more, switches) in product((False, True), few):
            for chosen in combinations(others, more):
                if brings_others == users.issuperset(by_id[call].user for call in chosen):
                    continue
                wanted = _with_what_it_refers_to(kept | set(chosen), by_id)
                left = tuple(replace(call, stage=0) for call in calls if call.id in wanted)
                smaller = await self._with_these(example, left, switches)
                if smaller is not None:
                    return smaller
                if self.is_out_of_time:
                    return example
        return example

    async def _with_switches(self, example: Example, switches: int) -> Example | None:
        """A smaller example that shows the finding with so many switches.

        Also with the last call made when the others have ended: a reader who looks when all is over is easier to
        follow than a switch that brings the reader in last.
        """
        calls = example.script.program.calls
        fewer = [tuple(c for c in calls if c is not gone) for gone in calls if len(calls) > 1]
        for last, left in product((0, 1), [*fewer, calls]):
            ordered = (*(replace(call, stage=0) for call in left[:-1]), replace(left[-1], stage=last))
            if (smaller := await self._with_these(example, ordered, switches)) is not None:
                return smaller
        return None

    async def _with_these(self, example: Example, calls: tuple[Call, ...], switches: int) -> Example | None:
        program = replace(example.script.program, calls=calls)
        left = Example(example.script.doing(program), NATURAL)
        for turned in _turned(_only_users(left, frozenset(call.user for call in calls))):
            for schedule in _switched(turned, switches, picks=bool(example.schedule.picks)):
                candidate = replace(turned, schedule=schedule)
                if candidate.size >= example.size:
                    break  # all that follow have as many choices
                smaller = await self._try(example, candidate)
                if smaller is not None and smaller.size < example.size:
                    return smaller
        return None

    async def _merge_switches(self, example: Example) -> Example:
        """Take two switches away at once: from A to B and back again."""
        for pair in combinations(example.schedule.anchors[:12], 2):
            left = tuple(a for a in example.schedule.anchors if a not in pair)
            if len(left) + 2 != len(example.schedule.anchors):
                continue
            candidate = replace(example, schedule=replace(example.schedule, anchors=left))
            example = await self._try(example, candidate) or example
        return example

    async def _simplify(self, example: Example) -> Example:
        """Ids, keys and values as plain as can be; one stage instead of two."""
        plan = example.script.plan
        if isinstance(plan, CastPlan) and plan.ids == "hostile":
            plain = replace(plan, ids="plain", is_sweep=False)
            candidate = replace(example, script=replace(example.script, plan=plain))
            example = await self._try(example, candidate) or example
        program = example.script.program
        if any(call.stage for call in program.calls):
            flat = replace(program, calls=tuple(replace(call, stage=0) for call in program.calls))
            candidate = replace(example, script=example.script.doing(flat))
            example = await self._try(example, candidate) or example
        for kind in (Key, Value):
            calls = tuple(_simplest(call, kind) for call in example.script.program.calls)
            if calls != example.script.program.calls:
                simple = replace(example.script.program, calls=calls)
                candidate = replace(example, script=example.script.doing(simple))
                example = await self._try(example, candidate) or example
        return example

    async def _shorten(
        self,
        example: Example,
        items_of: Callable[[Example], tuple[Item, ...]],
        with_only: Callable[[Example, tuple[Item, ...]], Example],
    ) -> Example:
        """Delta debugging: drop runs of items, long ones first."""
        size = max(1, len(items_of(example)) // 2)
        while size and not self.is_out_of_time:
            start = 0
            while start < len(items := items_of(example)):
                kept = items[:start] + items[start + size :]
                smaller = await self._try(example, with_only(example, kept))
                if smaller is None:
                    start += size
                else:
                    example = smaller
            size //= 2
        return example


def among(example: Example, users: Iterable[int]) -> Example:
    """The example with the calls of these users only."""
    return _only_users(example, frozenset(users))


def _guesses(
    example: Example, first: frozenset[int], shown: int, evidence: Sequence[int]
) -> Iterable[Example]:
    """Small candidates that are likely, the smallest first: most leaks are a write and a read."""
    calls = example.script.program.calls
    by_id = {call.id: call for call in calls}
    if shown in by_id:
        wanted = _with_what_it_refers_to({shown, *evidence} & by_id.keys(), by_id)
        if evidence:
            yield _tidied(example, tuple(call for call in calls if call.id in wanted))
        if example.script.program.sequential:
            place = next(n for n, call in enumerate(calls) if call.id == shown)
            before = calls[: place + 1]
        else:
            before = calls
        users = first or frozenset({by_id[shown].user})
        # What fills a cache is the same question asked before, by the owner.
        alike = {call.id for call in before if call.user in users and _asks_alike(call, by_id[shown])}
        if evidence and not alike <= wanted:
            yield _tidied(example, tuple(call for call in before if call.id in wanted | alike))
        yield _tidied(example, tuple(call for call in before if call.user in users or call.id in wanted))
        yield _tidied(example, before)
    if first:
        yield _only_users(example, first)


def _asks_alike(call: Call, shown: Call) -> bool:
    """Whether two calls are of one operation and about the same keys, values and things."""
    about = (Key, Value, Result)
    return call.operation == shown.operation and all(
        form == other
        for (_, form), (_, other) in zip(call.arguments, shown.arguments, strict=True)
        if isinstance(form, about) or isinstance(other, about)
    )


def _with_what_it_refers_to(wanted: set[int], by_id: dict[int, Call]) -> set[int]:
    waiting = list(wanted)
    while waiting:
        for _, form in by_id[waiting.pop()].arguments:
            if isinstance(form, Result) and form.call in by_id and form.call not in wanted:
                wanted.add(form.call)
                waiting.append(form.call)
    return wanted


def _tidied(example: Example, calls: tuple[Call, ...]) -> Example:
    """The example with these calls only, and without the users who are not in them."""
    program = replace(example.script.program, calls=calls)
    smaller = replace(
        example, script=example.script.doing(program), schedule=_living(example.schedule, calls)
    )
    return _only_users(smaller, frozenset(call.user for call in calls))


def _turned(example: Example) -> Iterable[Example]:
    """The example as it is, and with its users in other orders: the natural order begins with the first."""
    everybody = range(len(example.script.surfaces))
    if len(everybody) <= MOST_PERMUTED:
        orders = list(permutations(everybody))
    else:
        orders = [(first, *(user for user in everybody if user != first)) for first in everybody]
    for order in orders:
        yield example if order == tuple(everybody) else _with_members(example, order)


def _switched(example: Example, switches: int, *, picks: bool) -> Iterable[Schedule]:
    """The natural order, then schedules with so many switches, or picks among tasks of one user; or it alone."""
    if switches == 1:
        yield NATURAL
    calls = example.script.program.calls
    users = sorted({call.user for call in calls})
    places = [(call.user, call.id, step) for call in calls for step in range(1, DEEPEST + 1)]
    choices: list[Anchor | Pick] = [Anchor(at, to) for at in places for to in users if to != at[0]]
    if picks:
        own = [(APP, call.id, step) for call in calls for step in range(1, DEEPEST + 1)]
        choices += [Pick(at, 1) for at in (*places, *own)]
    for chosen in combinations(choices, switches):
        if len({choice.at for choice in chosen}) == switches:
            yield Schedule(
                anchors=tuple(choice for choice in chosen if isinstance(choice, Anchor)),
                picks=tuple(choice for choice in chosen if isinstance(choice, Pick)),
            )


def _has_choices(example: Example) -> bool:
    return example.size[2] > 0


def _quiet(schedule: Schedule) -> Schedule:
    """Everybody in the natural order, faults as they are."""
    return replace(NATURAL, faults=schedule.faults)


def _living(schedule: Schedule, calls: Iterable[Call]) -> Schedule:
    """The choices whose places are still there."""
    ids = {call.id for call in calls} | {-1}
    return replace(
        schedule,
        anchors=tuple(a for a in schedule.anchors if a.at[1] in ids),
        in_flight=tuple(p for p in schedule.in_flight if p[1] in ids),
        together=tuple(p for p in schedule.together if p[1] in ids),
        picks=tuple(p for p in schedule.picks if p.at[1] in ids),
        blocked=tuple(b for b in schedule.blocked if b.at[1] in ids),
        faults=tuple(f for f in schedule.faults if f.call in ids),
    )


def _only_users(example: Example, keep: frozenset[int]) -> Example:
    """The example without the calls of the others; those whom a call names stay as people."""
    calls = tuple(call for call in example.script.program.calls if call.user in keep)
    named = {
        form.user if isinstance(form, Person) else form.owner
        for call in calls
        for _, form in call.arguments
        if isinstance(form, Person | Result)
    }
    members = sorted({call.user for call in calls} | {u for u in named if u < len(example.script.surfaces)})
    left = replace(example.script.program, calls=calls)
    return _with_members(replace(example, script=example.script.doing(left)), members)


def _with_members(example: Example, members: Sequence[int]) -> Example:
    """The example with these of its users, in this order."""
    number = {old: new for new, old in enumerate(members)}
    plan = example.script.plan
    old_members = plan.members if plan.members is not None else tuple(range(len(example.script.surfaces)))
    script = replace(
        example.script,
        surfaces=tuple(example.script.surfaces[old] for old in members),
        plan=replace(plan, members=tuple(old_members[old] for old in members)),
        program=Program(
            calls=tuple(_renumbered(call, number) for call in example.script.program.calls),
            sequential=example.script.program.sequential,
        ),
    )
    path = tuple(
        (user if user < 0 else number[user], call, task)
        for user, call, task in example.path
        if user < 0 or user in number
    )
    schedule = _living(_rescheduled(example.schedule, number), script.program.calls)
    return Example(script, schedule, path)


def _renumbered(call: Call, number: dict[int, int]) -> Call:
    arguments: list[tuple[str, Form]] = []
    for name, form in call.arguments:
        if isinstance(form, Person):
            form = Person(number[form.user])
        elif isinstance(form, Result):
            form = replace(form, owner=number[form.owner])
        arguments.append((name, form))
    return replace(call, user=number[call.user], arguments=tuple(arguments))


def _rescheduled(schedule: Schedule, number: dict[int, int]) -> Schedule:
    def moved(user: int) -> int | None:
        return user if user < 0 else number.get(user)

    anchors = []
    for anchor in schedule.anchors:
        who, to = moved(anchor.at[0]), moved(anchor.to)
        if who is not None and to is not None:
            anchors.append(replace(anchor, at=(who, *anchor.at[1:]), to=to))
    places = [
        tuple((who, p[1], p[2]) for p in some if (who := moved(p[0])) is not None)
        for some in (schedule.in_flight, schedule.together)
    ]
    picks = tuple(
        replace(pick, at=(who, *pick.at[1:]))
        for pick in schedule.picks
        if (who := moved(pick.at[0])) is not None
    )
    return replace(
        schedule, anchors=tuple(anchors), in_flight=places[0], together=places[1], picks=picks, blocked=()
    )


def _simplest(call: Call, kind: type[Key] | type[Value]) -> Call:
    arguments: tuple[tuple[str, Form], ...] = tuple(
        (name, kind(0) if isinstance(form, kind) else form) for name, form in call.arguments
    )
    return replace(call, arguments=arguments)
