"""What is counted over all examples of a check."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_ssot_isolation.model.history import History, Outcome

ENOUGH = 3
"""Examples after which a check is given up, where each of them was held up for its whole patience."""

_HELD_UP = frozenset({"busy", "stuck", "leftover"})


@dataclass(slots=True)
class Tally:
    """What was counted over all examples of a check."""

    examples: int = 0
    calls: int = 0
    succeeded: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_error: dict[tuple[str, str], str] = field(default_factory=dict)
    controls: int = 0
    cut_short: int = 0
    held_up: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    refused: dict[str, None] = field(default_factory=dict)
    refusals: int = 0
    notes: dict[str, None] = field(default_factory=dict)

    def take(self, history: History) -> None:
        """Count one example."""
        self.examples += 1
        self.calls += len(history.bound)
        surfaces = [principal.surface for principal in history.principals]
        succeeded = self.succeeded
        for observation in history.observations:
            if observation.channel != "result" or observation.call < 0:
                continue
            name = (surfaces[observation.user], observation.operation)
            if observation.outcome is Outcome.OK:
                succeeded[name] += 1
            elif name not in self.first_error:
                self.first_error[name] = _first_line(observation.seen)
        if history.trouble is not None:
            self.cut_short += 1
            self.held_up += history.trouble.kind in _HELD_UP
            self.troubles[history.trouble.text] += 1
        self.notes.update(dict.fromkeys(history.notes))

    @property
    def is_hopeless(self) -> bool:
        """Whether no example came to its end, and each took seconds: more of them would say no more."""
        return self.held_up == self.examples >= ENOUGH


def _first_line(seen: object) -> str:
    if isinstance(seen, Mapping) and isinstance(seen.get("error"), Mapping):
        error = seen["error"]
        return f"{error.get('type')}: {error.get('text')}".partition("\n")[0][:200]
    if isinstance(seen, Mapping) and "status" in seen:
        return f"HTTP {seen['status']} {seen.get('body')!s}"[:200]
    return repr(seen)[:200]
