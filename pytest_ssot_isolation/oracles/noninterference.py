"""What one user sees must not depend on those whom that user may not see.

From an equal start the observer's calls are run again without the others'; whatever the observer then sees
differently was told by the others. The same comparison serves three oracles: a lost or changed thing of the
observer's own is ``integrity``, a failure that another's fault caused is ``availability``, and all else is
``noninterference``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_ssot_isolation.model.history import History, Outcome
from pytest_ssot_isolation.model.verdict import Finding
from pytest_ssot_isolation.oracles.normal import (
    Alike,
    Declarations,
    Namer,
    Place,
    alike_by_name,
    answers_of,
    differences,
    is_id_like,
    known_names,
)

if TYPE_CHECKING:
    from pytest_ssot_isolation.oracles.canary import Scan

_ERRORS_OF_CONTENTION = (
    "deadlock", "serializ", "could not obtain lock", "locked", "timeout", "timed out", "too many connections",
    "too many clients", "remaining connection slots",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that the observer sees differently without the others.

    Attributes:
        call: Id of the call.
        operation: Name of the operation.
        channel: Channel of the observation.
        path: Dotted path in the seen form; ``""`` for the whole answer.
        full: What was seen beside the others, in the normal form.
        solo: What was seen without them.
        ended: Whether the call ended differently.
    """

    call: int
    operation: str
    channel: str
    path: str
    full: object
    solo: object
    ended: bool = False

    @property
    def place(self) -> Place:
        """The field: operation and path."""
        return (self.operation, self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One run as one user saw it, with what is needed to compare it.

    Attributes:
        history: The run.
        nonce: The letters of its ids.
    """

    history: History
    nonce: str


def compare(
    full: View,
    solo: View,
    observer: int,
    declared: Declarations,
    *,
    opaque: frozenset[Place] = frozenset(),
    masked: frozenset[Place] = frozenset(),
    pick_ids: bool = False,
) -> tuple[list[Difference], set[Place]]:
    """Compare two runs as one user saw them.

    Args:
        full: The run beside the others.
        solo: The run without them.
        observer: Index of the user in both.
        declared: What the surface's author declared.
        opaque: Further fields that hold names only.
        masked: Further fields that are not compared.
        pick_ids: Whether whole numbers in fields that are named like ids are taken for names.

    Returns:
        The differences in the order of the observer's calls, and the fields that were taken for ids.
    """
    found, renamed = _compared(full, solo, observer, declared, opaque, masked, pick_ids, by_call=False)
    if found:
        # Names count what was seen before. Where a field that is not compared held a new value in one run alone,
        # all later names are shifted: such a difference is gone when each call's new values are counted apart.
        apart, _ = _compared(full, solo, observer, declared, opaque, masked, pick_ids, by_call=True)
        same = {(d.call, d.channel, d.path) for d in apart}
        found = [d for d in found if (d.call, d.channel, d.path) in same]
    return found, renamed


def _compared(
    full: View,
    solo: View,
    observer: int,
    declared: Declarations,
    opaque: frozenset[Place],
    masked: frozenset[Place],
    pick_ids: bool,
    *,
    by_call: bool,
) -> tuple[list[Difference], set[Place]]:
    both = set(full.history.bound) & set(solo.history.bound)
    seen = []
    renamed: set[Place] = set()
    numbers: list[dict[str, str]] = []
    references: set[str] = set()
    both -= _of_two(full.history, observer)
    both -= _after_an_id_came_again(full.history, solo.history, observer)
    for view in (full, solo):
        namer = Namer(
            known_names(view.history, view.nonce), declared, opaque=opaque, masked=masked, pick_ids=pick_ids
        )
        # Values put in for results of the absent stand for those results.
        for call, bound in sorted(full.history.bound.items()):
            other = view.history.bound.get(call)
            if bound.user != observer or other is None:
                continue
            foreign = {name for name, owner in bound.references if owner != observer}
            for name, value in other.arguments:
                if name in foreign and isinstance(value, int | str):
                    namer.numbers[str(value)] = f"<reference {call}.{name}>"
                    references.add(f"<reference {call}.{name}>")
        rows = []
        for call, operation, channel, answer in answers_of(view.history, observer, both.__contains__):
            outcome, form = answer["outcome"], answer["seen"]  # type: ignore[index]
            namer.within = call if by_call else None
            rows.append((call, operation, channel, outcome, namer.form(operation, form)))
        seen.append(rows)
        renamed |= namer.renamed
        numbers.append(namer.numbers)
    return _paired(seen[0], seen[1], alike_by_name(numbers[0], numbers[1], frozenset(references))), renamed


def _of_two(history: History, observer: int) -> set[int]:
    """The calls that ask for another's thing by an id which the observer's own thing has by now.

    A database gives the id of a row that was deleted to the next one: whose it was cannot be said.
    """
    foreign: dict[int, set[str]] = {}
    for call, bound in history.bound.items():
        names = {name for name, owner in bound.references if owner != observer}
        if bound.user == observer and names:
            foreign[call] = {str(value) for name, value in bound.arguments if name in names}
    if not foreign:
        return set()
    own: set[str] = set()
    for seen in history.observations:
        if seen.user == observer and seen.channel == "result" and not foreign.get(seen.call):
            own |= _ids_in(seen.seen, (seen.operation, ""))
    return {call for call, values in foreign.items() if values & own}


def _after_an_id_came_again(full: History, solo: History, observer: int) -> set[int]:
    """The calls from where one run alone gives a new thing the id of an old one: from there on both tell of others.

    A database may give the number of a row that was deleted to the next one, and does so only while nobody else
    has made one in between.
    """
    odd = _given_again(full, observer) ^ _given_again(solo, observer)
    if not odd:
        return set()
    answers = [o for o in full.observations if o.user == observer and o.channel == "result"]
    first = min((o.began for o in answers if o.call in odd), default=0)
    return {o.call for o in answers if o.began >= first}


def _given_again(history: History, observer: int) -> set[int]:
    """The observer's calls that made something new under an id that an earlier such call had been given."""
    making = {planted.call for planted in history.planted.values()}
    given: set[str] = set()
    again: set[int] = set()
    for seen in history.observations:
        bound = history.bound.get(seen.call)
        if seen.user != observer or seen.channel != "result" or seen.call not in making:
            continue
        if bound is None or bound.references:
            continue  # it is about a thing that was there
        ids = _ids_in(seen.seen, (seen.operation, ""))
        if ids & given:
            again.add(seen.call)
        given |= ids
    return again


def _ids_in(seen: object, place: Place) -> set[str]:
    operation, path = place
    if isinstance(seen, Mapping):
        parts = [(f"{path}.{name}" if path else str(name), part) for name, part in seen.items()]
        return {one for name, part in parts for one in _ids_in(part, (operation, name))}
    if isinstance(seen, list | tuple):
        return {one for part in seen for one in _ids_in(part, place)}
    is_id = isinstance(seen, int | str) and not isinstance(seen, bool) and (not path or is_id_like(place))
    return {str(seen)} if is_id else set()


def _paired(
    full: Sequence[tuple[int, str, str, str, object]],
    solo: Sequence[tuple[int, str, str, str, object]],
    alike: Alike,
) -> list[Difference]:
    found = []
    by_call: dict[tuple[int, str], list[tuple[str, str, object]]] = {}
    for call, operation, channel, outcome, form in solo:
        by_call.setdefault((call, channel), []).append((operation, outcome, form))
    # Pushes reach a user when they may: only that they come, and in which order, is compared.
    pushed: dict[str, list[object]] = {}
    for call, operation, channel, outcome, form in full:
        if channel != "result":
            pushed.setdefault(channel, []).append(form)
            continue
        others = by_call.get((call, channel))
        if not others:
            continue
        _, other_outcome, other_form = others.pop(0)
        if Outcome.UNKNOWN.value in (outcome, other_outcome):
            continue
        for path, one, other in differences(form, other_form, alike):
            found.append(
                Difference(call, operation, channel, path, one, other, ended=outcome != other_outcome)
            )
    alone: dict[str, list[object]] = {}
    for _, _, channel, _, form in solo:
        if channel != "result":
            alone.setdefault(channel, []).append(form)
    for channel in sorted(pushed.keys() | alone.keys()):
        one, other = pushed.get(channel, []), alone.get(channel, [])
        if one != other and sorted(map(repr, one)) != sorted(map(repr, other)):
            found.append(Difference(-1, "open", channel, "", one, other))
    return found


def is_contention(difference: Difference) -> bool:
    """Whether a failure names what several users at the same time may lawfully cause."""
    text = repr(difference.full).lower()
    return any(word in text for word in _ERRORS_OF_CONTENTION)


def finding_of(difference: Difference, full: History, solo: History, observer: int, scan: Scan) -> Finding:
    """Name what a confirmed difference means."""
    name = full.principals[observer].name
    others = [p for p in full.principals if p.index != observer and not full.may_see(observer, p.index)]
    acting = sorted({bound.user for bound in full.bound.values()} & {p.index for p in others})
    offender = acting[0] if len(acting) == 1 else None
    oracle, why = _meaning(difference, full, solo, observer, scan)
    said = f"beside others {name} sees {_short(difference.full)}, alone {_short(difference.solo)}"
    where = f" at {difference.path}" if difference.path else ""
    return Finding(
        oracle=oracle,
        victim=name,
        offender=full.principals[offender].name if offender is not None else None,
        operation=difference.operation,
        channel=difference.channel,
        path=difference.path,
        explanation=f"{why}: in the answer to {difference.operation}{where} {said}",
        index=difference.call,
        victim_index=observer,
        offender_index=offender,
    )


def _meaning(
    difference: Difference, full: History, solo: History, observer: int, scan: Scan
) -> tuple[str, str]:
    name = full.principals[observer].name
    one, other = full.of_call(difference.call), solo.of_call(difference.call)
    faults = {fault.call for fault in full.schedule.faults}
    foreign_fault = any(full.bound[call].user != observer for call in faults if call in full.bound)
    if one is not None and other is not None:
        if foreign_fault and one.outcome is Outcome.FAILED and other.outcome is Outcome.OK:
            return "availability", f"a fault in another's call makes a call of {name} fail"
        mine = full.principals[observer].serial
        before = {(s.user, s.slot) for s in scan(other.seen) if s.user == mine}
        after = {(s.user, s.slot) for s in scan(one.seen) if s.user == mine}
        if before - after:
            return "integrity", f"others changed or removed what {name} wrote"
    return "noninterference", f"what {name} sees depends on others"


def _short(value: object, longest: int = 60) -> str:
    if isinstance(value, Mapping) and isinstance(value.get("error"), Mapping):
        value = f"{value['error'].get('type')}: {value['error'].get('text')}"
    text = str(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"
