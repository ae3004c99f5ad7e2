"""The fixtures of the other project, on this package."""

from __future__ import annotations

from fixtures_of_the_service import alice, bob, service

__all__ = ["alice", "bob", "service"]
