"""A foreign secret in what a user sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from pytest_ssot_isolation.model.history import History, Observation, Planted
from pytest_ssot_isolation.model.verdict import Finding, Judgement

ORACLE = "canary"


class Sighting(Protocol):
    """A canary recognised in an observation."""

    @property
    def user(self) -> int:
        """Serial number of the owner within the check."""

    @property
    def slot(self) -> int:
        """Which of the owner's canaries it is."""

    @property
    def path(self) -> str:
        """Dotted place in the seen form."""

    @property
    def encoding(self) -> str:
        """How it was encoded."""

    @property
    def weak(self) -> bool:
        """Whether it may be there by chance."""


Scan: TypeAlias = Callable[[object], Sequence[Sighting]]


def judge(history: History, scan: Scan) -> Judgement:
    """Say who saw a canary that is not theirs.

    Args:
        history: One run.
        scan: Recognises canaries in an observation.

    Returns:
        Findings, at most one for each reader, owner, operation, channel and place; the users for whom
        the positive control held: an owner or addressee saw the canary in another call than the one that
        carried it in. Inconclusive where nothing was planted.
    """
    owners = {principal.serial: principal.index for principal in history.principals}
    found: dict[tuple[object, ...], Finding] = {}
    controls: set[int] = set()
    weak: dict[tuple[int, int], list[tuple[Observation, Sighting]]] = {}
    for observation in history.observations:
        sightings = scan(observation.seen)
        if not sightings:
            continue
        viewer = observation.user
        # A narrow value may belong to several users: where the viewer may see one of them, it is that one's.
        own = [s.path for s in sightings if s.weak and _may_see(history, viewer, owners.get(s.user))]
        for sighting in sightings:
            owner = owners.get(sighting.user)
            if sighting.weak and sighting.path in own and not _may_see(history, viewer, owner):
                continue
            planted = history.planted.get((sighting.user, sighting.slot))
            if owner is not None and _is_lawful(history, planted, viewer, owner):
                if planted is not None and _proves(observation, planted):
                    controls.add(owner)
                continue
            if sighting.weak:
                weak.setdefault((viewer, sighting.user), []).append((observation, sighting))
                continue
            _add(found, _finding(history, observation, sighting, owner, planted))
    for (_, serial), narrow in weak.items():
        # One narrow value may be there by chance; two different ones of the same owner are not.
        if len({sighting.slot for _, sighting in narrow}) > 1:
            observation, sighting = narrow[0]
            owner = owners.get(serial)
            planted = history.planted.get((serial, sighting.slot))
            _add(found, _finding(history, observation, sighting, owner, planted))
    if not history.planted and not found:
        return Judgement.inconclusive("no canary was planted, so no read could have shown one")
    return Judgement.of(found.values(), controls=controls)


def _proves(observation: Observation, planted: Planted) -> bool:
    """Whether a lawful sight shows that secrets come back: an echo in the answer that took one in does not."""
    if observation.channel == "log":
        return False
    return observation.channel != "result" or observation.call != planted.call


def _may_see(history: History, viewer: int, owner: int | None) -> bool:
    return owner is not None and history.may_see(viewer, owner)


def _is_lawful(history: History, planted: Planted | None, viewer: int, owner: int) -> bool:
    if history.may_see(viewer, owner):
        return True
    return planted is not None and (planted.public or viewer in planted.readers)


def _add(found: dict[tuple[object, ...], Finding], finding: Finding) -> None:
    found.setdefault((*finding.key, finding.victim_index, finding.offender_index), finding)


def _finding(
    history: History, observation: Observation, sighting: Sighting, owner: int | None, planted: Planted | None
) -> Finding:
    reader = history.principals[observation.user]
    if owner is None:
        victim, name = None, "a user of an earlier example"
    else:
        victim, name = owner, history.principals[owner].name
    how = "" if sighting.encoding == "plain" else f", encoded ({sighting.encoding})"
    if planted is None:
        why = (
            f"it shows a canary of {name} that no call of this run carried in: it was left by an earlier run"
        )
    else:
        why = f"it shows a canary of {name}{how}, and {reader.name} may not see what is {name}'s"
    return Finding(
        oracle=ORACLE,
        victim=name,
        offender=reader.name,
        operation=observation.operation,
        channel=observation.channel,
        path=sighting.path,
        explanation=why,
        index=observation.call,
        victim_index=victim,
        offender_index=observation.user,
        victim_serial=sighting.user,
        evidence=(planted.call,) if planted is not None else (),
    )
