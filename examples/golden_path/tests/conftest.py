"""Fixtures of the application's own tests."""

from __future__ import annotations

from fixtures_of_the_service import alice, bob, service

__all__ = ["alice", "bob", "service"]
