"""Residue: what is left of one user where the next one finds it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pytest_ssot_isolation.model.history import History, Leftover
from pytest_ssot_isolation.model.verdict import Finding, Judgement

if TYPE_CHECKING:
    from pytest_ssot_isolation.oracles.canary import Scan

ORACLE = "residue"

SHORTEST_ID = 4
"""Characters of an id that is looked for inside a longer text: a shorter one may be there by chance."""

ALWAYS = frozenset({"transaction", "advisory lock"})
"""These harm the next user whatever they say."""

HARMLESS = frozenset({"prepared statement"})
"""Of these, only one that names somebody is more than untidy."""

MENDED = {
    "role": "RESET ROLE",
    "session user": "RESET SESSION AUTHORIZATION",
    "search_path": "RESET search_path, or SET LOCAL in a transaction",
    "setting": "RESET, or SET LOCAL in a transaction",
    "temporary table": "ON COMMIT DROP, or DISCARD TEMP",
    "prepared statement": "DEALLOCATE",
    "channel": "UNLISTEN *",
    "advisory lock": "pg_advisory_xact_lock, or pg_advisory_unlock_all()",
    "transaction": "COMMIT or ROLLBACK",
    "cursor": "CLOSE ALL",
    "session": "a client or a session id of each user's own",
    "context variable": "ContextVar.reset in a finally, or a context of its own for each job",
}


def judge(history: History, scan: Scan) -> Judgement:
    """Say what users met that others had left.

    Args:
        history: One run.
        scan: Recognises canaries in a value.

    Returns:
        Findings, one for each kind of thing left: a ``leak`` where it names another user, or is another's role,
        state, lock or transaction; a ``hint`` where it is merely untidy.
    """
    leavers: dict[tuple[str, str, str], set[int]] = {}
    for leftover in history.leftovers:
        if leftover.left_by is not None:
            leavers.setdefault(_same(leftover), set()).add(leftover.left_by)
    found: dict[str, Finding] = {}
    for leftover in history.leftovers:
        named = _named(history, leftover, scan)
        victim = named if named is not None else leftover.left_by
        if victim is None or victim == leftover.found_by or history.may_see(leftover.found_by, victim):
            continue
        by_all = len(leavers.get(_same(leftover), ())) > 1
        severity = "leak" if named is not None or _weighs(leftover, by_all=by_all) else "hint"
        finding = _finding(history, leftover, victim, severity, by_all=by_all)
        earlier = found.get(finding.path)
        if earlier is None or (earlier.severity == "hint" and severity == "leak"):
            found[finding.path] = finding
    return Judgement.of(found.values())


def _same(leftover: Leftover) -> tuple[str, str, str]:
    return leftover.kind, leftover.name, repr(leftover.value)


def _weighs(leftover: Leftover, *, by_all: bool) -> bool:
    """Whether what names nobody is somebody's all the same."""
    if leftover.kind in ALWAYS:
        return True
    if leftover.kind in HARMLESS or by_all:
        return False  # What everybody leaves alike tells nothing of anybody.
    if leftover.kind == "context variable":
        return False  # Libraries keep things of their own there, alike for all: it must name somebody.
    return leftover.kind != "setting" or "." in leftover.name


def _named(history: History, leftover: Leftover, scan: Scan) -> int | None:
    """The other user whom it names; None where it names nobody, or the one who met it."""
    owners = {principal.serial: principal.index for principal in history.principals}
    for sighting in scan(leftover.value):
        owner = owners.get(sighting.user)
        if owner is not None and owner != leftover.found_by and not sighting.weak:
            return owner
    best: tuple[int, set[int]] = (0, set())
    texts = [leftover.name, *_texts(leftover.value)]
    for principal in history.principals:
        for id_ in (principal.user_id, principal.tenant_id):
            if any(id_ and (text == id_ or (len(id_) >= SHORTEST_ID and id_ in text)) for text in texts):
                # One look-alike may be a part of another: the longest is the one that is meant.
                if len(id_) > best[0]:
                    best = (len(id_), {principal.index})
                elif len(id_) == best[0]:
                    best[1].add(principal.index)
    if leftover.found_by in best[1]:
        return None
    if leftover.left_by in best[1]:
        return leftover.left_by
    return min(best[1], default=None)


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _finding(history: History, leftover: Leftover, victim: int, severity: str, *, by_all: bool) -> Finding:
    who, whose = history.principals[leftover.found_by].name, history.principals[victim].name
    kind = leftover.kind
    what = {
        "setting": f"the setting {leftover.name} = {leftover.value!r}",
        "role": f"the role {leftover.value!r}",
        "session user": f"the session user {leftover.value!r}",
        "search_path": f"search_path = {leftover.value!r}",
        "transaction": "an open transaction",
        "context variable": f"the context variable {leftover.name} = {leftover.value!r}",
        "session": f"the session {leftover.value!r}",
    }.get(kind, f"the {kind} {leftover.name!r}")
    alike = (
        ". Everybody leaves the same, so it tells nothing of anybody" if by_all and severity == "hint" else ""
    )
    return Finding(
        oracle=ORACLE,
        severity=severity,
        victim=whose,
        victim_index=victim,
        offender=who,
        offender_index=leftover.found_by,
        channel="connection" if kind != "context variable" else "thread",
        path=f"setting {leftover.name}" if kind == "setting" else kind,
        index=leftover.found_in,
        evidence=(leftover.left_in,) if leftover.left_in >= 0 else (),
        explanation=(
            f"{who} was given {leftover.place} that still carried {what}, as {whose} had left it"
            f" (ends with {MENDED[kind]}){alike}"
        ),
    )
