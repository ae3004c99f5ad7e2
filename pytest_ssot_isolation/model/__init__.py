"""Frozen values that the other folders hand to each other; standard library only."""
