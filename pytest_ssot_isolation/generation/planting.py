"""Canaries by hand: a test mints them for its users, plants them, and looks for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_ssot_isolation.model.canary import Mint
from pytest_ssot_isolation.model.context import UserExecutionContext
from pytest_ssot_isolation.model.scan import Scanner


@dataclass(frozen=True, slots=True)
class Spotted:
    """A canary that was found.

    Attributes:
        owner: Whose secret it is.
        path: Where it stood, such as ``items.*.body``; empty for the answer itself.
        encoding: How it was written, such as ``plain`` or ``base64``.
        weak: Too narrow or too much cut to stand alone as evidence.
    """

    owner: UserExecutionContext
    path: str
    encoding: str
    weak: bool


class Canaries:
    """Mints secrets that name their owner, and finds them again.

    Args:
        key: Of this test; canaries minted with another key are nobody's.
    """

    def __init__(self, key: bytes) -> None:
        self._mint = Mint(key)
        self._scanner = Scanner(self._mint)
        self._owners: list[UserExecutionContext] = []
        self._minted = 0

    def mint(self, owner: UserExecutionContext, kind: Any = str, **shape: Any) -> Any:
        """Return a fresh secret of one user, to be planted as a value of its kind.

        Args:
            owner: Whose secret it is.
            kind: What it is: ``str``, ``int``, ``"email"`` and so on, as for `secrets()`.
            **shape: As for `secrets()`: ``max_length``, ``wrap``, ``bits``, ``digits``, ``places``.
        """
        if owner not in self._owners:
            self._owners.append(owner)
        canary = self._mint.mint(self._owners.index(owner), self._minted, kind, **shape)
        self._minted += 1
        self._scanner.learn(canary)
        return canary.value

    def scan(self, seen: object, *, reader: UserExecutionContext | None = None) -> tuple[Spotted, ...]:
        """Return the canaries in what somebody saw.

        Args:
            seen: Any value: an answer, an exception, rows, bytes.
            reader: Who saw it; the reader's own canaries are then left out. None returns all.
        """
        found = (
            Spotted(self._owners[sighting.user], sighting.path, sighting.encoding, sighting.weak)
            for sighting in self._scanner.scan(seen)
            if sighting.user < len(self._owners)
        )
        return tuple(one for one in found if reader is None or one.owner.user_id != reader.user_id)
