"""Weakens guards of the application under test, one at a time, to learn whether a check would notice."""
