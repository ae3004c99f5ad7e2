"""What an oracle may say of a history: a verdict, and findings with their reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_ssot_isolation.model.story import Story


class Verdict(Enum):
    """The three answers. ``INCONCLUSIVE`` is never taken for ``CLEAN``."""

    CLEAN = "clean"
    LEAK = "leak"
    INCONCLUSIVE = "inconclusive"


class Severity(IntEnum):
    """How much a finding weighs. Only those at or above ``--ssot-fail-on`` fail a test."""

    HINT = 1
    LOW = 2
    LEAK = 3

    @property
    def label(self) -> str:
        """The word used in reports, options and JSON."""
        return self.name.lower()

    @classmethod
    def of(cls, label: str) -> Severity:
        """The severity that is called so.

        Raises:
            KeyError: None is.
        """
        return cls[label.upper()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One way in which one user's isolation was broken.

    Attributes:
        oracle: The oracle that saw it, such as ``"canary"``.
        severity: ``"leak"``, ``"low"`` or ``"hint"``.
        victim: Display name of the user whose isolation was broken: the owner of the
            secret, or the user whose view or data changed.
        offender: Display name of who read or caused it; None if nobody can be named.
        operation: The operation in whose call it showed.
        channel: Where it showed: ``"result"``, ``"log"``, ``"websocket"``, ...
        path: Dotted place in the seen form, such as ``items.*.body``.
        calls: The minimal history, a line for each call; empty before reduction.
        preemptions: Switches between users that are not the natural order.
        fault: The fault that it needs, in words; None without one.
        explanation: Why it is a leak, in a sentence.
        replay: Text form of the recorded example, for ``--ssot-replay``.
        story: The history behind ``calls``, for reports with more room.
        shrunk: How it was made small, in words.
        index: Id of the call in the history at which it showed (-1: none).
        victim_index: The victim's number in the history.
        offender_index: The offender's number in the history.
        victim_serial: The victim's number within the check, for one of an earlier example.
        evidence: Ids of the calls that carried in what showed.
        accepted: Why it is accepted and until when; empty for one that is not.
    """

    oracle: str
    severity: str = "leak"
    victim: str | None = None
    offender: str | None = None
    operation: str | None = None
    channel: str = "result"
    path: str = ""
    calls: tuple[str, ...] = ()
    preemptions: int = 0
    fault: str | None = None
    explanation: str = ""
    replay: str = ""
    shrunk: str = ""
    index: int = -1
    victim_index: int | None = None
    offender_index: int | None = None
    victim_serial: int = 0
    evidence: tuple[int, ...] = ()
    story: Story | None = None
    accepted: str = ""

    @property
    def name(self) -> str:
        """The key as text, for a file of accepted findings."""
        return ":".join(part or "" for part in self.key).rstrip(":")

    @property
    def key(self) -> tuple[str, str | None, str, str]:
        """What makes two findings the same bug: oracle, operation, channel and field."""
        return (self.oracle, self.operation, self.channel, self.path)

    @property
    def weight(self) -> Severity:
        """The severity, as it is compared."""
        return Severity.of(self.severity)

    @property
    def title(self) -> str:
        """Who did what to whom, in a line."""
        return self.explanation.partition("\n")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one oracle says of one history.

    Attributes:
        findings: All that it saw.
        reason: Why nothing can be said; empty where something can.
        controls: Users for whom the positive control held.
    """

    findings: tuple[Finding, ...] = ()
    reason: str = ""
    controls: frozenset[int] = frozenset()

    @property
    def verdict(self) -> Verdict:
        """``LEAK`` with a finding, else ``INCONCLUSIVE`` with a reason, else ``CLEAN``."""
        if self.findings:
            return Verdict.LEAK
        return Verdict.INCONCLUSIVE if self.reason else Verdict.CLEAN

    @classmethod
    def of(cls, findings: Iterable[Finding], *, controls: Iterable[int] = ()) -> Judgement:
        """A judgement from findings, none of which means clean."""
        return cls(findings=tuple(findings), controls=frozenset(controls))

    @classmethod
    def inconclusive(cls, reason: str) -> Judgement:
        """A judgement that says why nothing can be said."""
        return cls(reason=reason)
