"""From a history to a story: a line for each call, canaries by name, what the finding is about marked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pytest_ssot_isolation.model.history import History, Observation, Outcome, name_of
from pytest_ssot_isolation.model.story import Line, Story

if TYPE_CHECKING:
    from pytest_ssot_isolation.model.verdict import Finding

LONGEST = 100
"""Characters of an argument or answer that are shown."""

SHORTEST_ID = 4
"""Characters of a user id that is shown by name: a shorter text may be anything."""

COMPARED = ("noninterference", "integrity", "availability")
QUOTED = re.compile(r"[\"'](<canary [^>]+>)[\"']")


class Words(str):
    """Text that is shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


Redact = Callable[[str, Callable[[int, int], str]], str]


def names_by_first_act(history: History) -> dict[int, str]:
    """Display names: the first to act is alice."""
    order = sorted(
        {bound.user for bound in history.bound.values()},
        key=lambda user: min(
            (o.began for o in history.observations if o.user == user and o.channel == "result"), default=0
        ),
    )
    rest = [p.index for p in history.principals if p.index not in order]
    return {user: name_of(place) for place, user in enumerate([*order, *rest])}


def tell(history: History, finding: Finding, redact: Redact) -> Story:
    """The calls of a history in the order in which they began."""
    names = names_by_first_act(history)
    acting = sorted(
        {bound.user for bound in history.bound.values()}, key=lambda user: list(names).index(user)
    )
    columns = {user: place for place, user in enumerate(acting)}

    def show(value: object, longest: int = LONGEST) -> str:
        text = QUOTED.sub(r"\1", redact(repr(value), _namer(history, names)))
        for principal in history.principals:
            if len(principal.user_id) >= SHORTEST_ID:
                text = text.replace(repr(principal.user_id), f"<id of {names[principal.index]}>")
        return _short(text, longest, around=f"<canary {names.get(finding.victim_index or 0)}#")

    lines = []
    answers = [o for o in history.observations if o.channel == "result" and o.call >= 0]
    answers.sort(key=lambda o: o.began)
    faults = {fault.call: fault.words for fault in history.schedule.faults}
    numbers = {answer.call: number for number, answer in enumerate(answers)}
    for number, answer in enumerate(answers):
        bound = history.bound[answer.call]
        said = ", ".join(show(value, 40) for _, value in bound.arguments)
        overlaps = tuple(
            numbers[o.call] for o in answers
            if o.user != answer.user and o.began < answer.ended and answer.began < o.ended
        )  # fmt: skip
        lines.append(
            Line(
                number=number,
                user=columns[answer.user],
                call=f"{answer.operation}({said})",
                answer=_answer(answer, show),
                saw=_saw(history, finding, answer, names, show),
                began=answer.began,
                ended=answer.ended,
                overlaps=overlaps,
                fault=faults.get(answer.call, ""),
            )
        )
    users = tuple(_title(history, user, names) for user in acting)
    people = [history.principals[user] for user in acting]
    return Story(
        users=users,
        lines=tuple(lines),
        ids=tuple(one.user_id for one in people),
        tenants=tuple(one.tenant_id for one in people),
    )


def _title(history: History, user: int, names: Mapping[int, str]) -> str:
    principal = history.principals[user]
    told = f"{names[user]} (user {principal.user_id!r}"
    if principal.tenant_id and len({p.tenant_id for p in history.principals}) > 1:
        told += f", tenant {principal.tenant_id!r}"
    if len({p.surface for p in history.principals}) > 1:
        told += f", {principal.surface}"
    return told + ")"


def _namer(history: History, names: Mapping[int, str]) -> Callable[[int, int], str]:
    by_serial = {p.serial: p.index for p in history.principals}

    def name(serial: int, slot: int) -> str:
        owner = by_serial.get(serial)
        return f"{names[owner] if owner is not None else 'of an earlier run'}#{slot}"

    return name


def _saw(
    history: History, finding: Finding, answer: Observation, names: Mapping[int, str],
    show: Callable[[object, int], str],
) -> str:  # fmt: skip
    shown_to = (
        finding.victim_index
        if finding.oracle in COMPARED or finding.offender_index is None
        else finding.offender_index
    )
    if answer.call != finding.index or answer.user != shown_to:
        return ""
    where = f" at {finding.path}" if finding.path else ""
    if finding.oracle == "expectation":
        return "fails"
    if finding.oracle == "canary":
        shown = [o for o in history.observations if o.call == answer.call and o.channel == finding.channel]
        told = show(shown[0].seen if shown else answer.seen, LONGEST)
        mine = re.search(rf"<canary {re.escape(names.get(finding.victim_index or 0, ''))}#\d+>", told)
        secret = mine[0] if mine else f"a canary of {names.get(finding.victim_index or 0, finding.victim)}"
        if finding.channel != "result":
            return f"{finding.channel}: {told}" if mine else f"{finding.channel}: {secret}{where}"
        return f"saw {secret}{where}"
    return f"differs{where}" if finding.oracle in COMPARED else f"here{where}"


def _answer(answer: Observation, show: Callable[[object, int], str]) -> str:
    seen = answer.seen
    if isinstance(seen, Mapping) and {"status", "headers", "body"} <= seen.keys():
        body = seen["body"]
        told = "" if body in (None, "", b"") else " " + show(body, LONGEST)
        return f"{seen['status']}{told}"
    if isinstance(seen, Mapping) and isinstance(seen.get("error"), Mapping) and len(seen) == 1:
        error = seen["error"]
        cut = " (cut off)" if answer.outcome is Outcome.UNKNOWN else ""
        # The first line is the author's sentence; pytest's own explanation of an assertion follows it.
        text = str(error.get("text") or "").partition("\n")[0]
        return show(Words(f"{error.get('type')}: {text}" if text else f"{error.get('type')}"), LONGEST) + cut
    return show(seen, LONGEST)


def _short(text: str, longest: int, around: str = "") -> str:
    """A text cut to a length, from before its first secret where that stands behind the end."""
    if len(text) <= longest:
        return text
    place = text.find(around) if around else -1
    end = text.find(">", place) + 1
    if place < 0 or end <= longest - 3:
        # A canary's name is not cut in two: what follows reads names.
        cut = text[: longest - 3]
        begun = cut.rfind("<canary ")
        return (cut[:begun] if begun > cut.rfind(">") else cut) + "..."
    begin = max(0, end - longest + 8)
    return f"{text[:2]}...{text[begin:end]}" + ("..." if end < len(text) else "")
