"""One mutable object, or one connection, in the hands of two users: a hint at what may come of it."""

from __future__ import annotations

from pytest_ssot_isolation.model.history import History
from pytest_ssot_isolation.model.verdict import Finding, Judgement

ORACLE = "aliasing"


def judge(history: History) -> Judgement:
    """Say what two users held at once, of which one may not see what is the other's.

    Args:
        history: One run, at whose end the objects of all users were compared.
    """
    found: dict[tuple[str, str], Finding] = {}
    for held in history.in_common:
        pairs = [
            (one, other)
            for place, one in enumerate(held.users)
            for other in held.users[place + 1 :]
            if not (history.may_see(one, other) and history.may_see(other, one))
        ]
        if not pairs:
            continue
        first, second = (history.principals[user] for user in pairs[0])
        ways = f" (in the surface at {held.path})" if held.path else ""
        found.setdefault(
            (held.kind, held.path),
            Finding(
                oracle=ORACLE,
                severity="hint",
                victim=first.name,
                victim_index=first.index,
                offender=second.name,
                offender_index=second.index,
                channel="objects",
                path=held.path or held.kind,
                explanation=f"{first.name} and {second.name} hold the same {held.kind}{ways}: what one does to it, "
                "the other meets",
            ),
        )
    return Judgement.of(found.values())
