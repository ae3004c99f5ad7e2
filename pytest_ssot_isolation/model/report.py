"""What one check came to: findings, what ran, and how to run it again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_ssot_isolation.model.mutants import Mutants
from pytest_ssot_isolation.model.verdict import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of one check.

    Attributes:
        verdict: ``CLEAN``, ``LEAK`` or ``INCONCLUSIVE``.
        findings: What was found, sharpest first, each bug once.
        subject: The surfaces or the factory that were checked, in words.
        test: Id of the test that asked; empty outside pytest.
        examples: Programs that were run.
        calls: Calls that were made in them, reductions apart.
        seconds: Time that the check took, in seconds.
        controls: Owners that saw their own canary again, in another call, over all examples.
        never_called: Operations that never ran, or that never succeeded without ``may_fail``.
        refused_ids: Families of ids that the application refused at sign-in.
        reasons: Why nothing can be said, or what limits what is said; a sentence each.
        notes: Facts a reader should know, such as a budget that ended early.
        seed: The seed of the whole check.
        oracles: Names of the oracles that judged.
        mutants: What ``mutate`` came to; None where it was not asked for.
        facts: Further run facts, such as servers and versions.
    """

    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    subject: str = ""
    test: str = ""
    examples: int = 0
    calls: int = 0
    seconds: float = 0.0
    controls: int = 0
    never_called: tuple[str, ...] = ()
    refused_ids: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seed: int = 0
    oracles: tuple[str, ...] = ()
    mutants: Mutants | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The report as a JSON document, keys in a fixed order."""
        return json.dumps(self.to_plain(), indent=2, ensure_ascii=False)

    def to_plain(self) -> dict[str, Any]:
        """The report as dicts, lists, strings and numbers."""
        plain = asdict(self)
        plain["verdict"] = self.verdict.value
        plain["facts"] = dict(self.facts)
        plain["mutants"] = self.mutants.to_plain() if self.mutants is not None else None
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Report:
        """The report that ``to_plain`` or a parsed ``to_json`` stands for."""
        from pytest_ssot_isolation.model.story import Story

        values = dict(plain)
        values["verdict"] = Verdict(values["verdict"])
        findings = []
        for row in values.get("findings", ()):
            row = dict(row)
            row["calls"] = tuple(row["calls"])
            row["evidence"] = tuple(row.get("evidence", ()))
            row["story"] = Story.from_plain(row["story"]) if row.get("story") else None
            findings.append(Finding(**row))
        values["findings"] = tuple(findings)
        for name in ("never_called", "refused_ids", "reasons", "notes", "oracles"):
            values[name] = tuple(values.get(name, ()))
        if values.get("mutants"):
            values["mutants"] = Mutants.from_plain(values["mutants"])
        return cls(**values)
