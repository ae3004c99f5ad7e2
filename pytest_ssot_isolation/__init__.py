"""Proves that one user of a Python application never sees, changes or disturbs another's things."""

__version__ = "0.1.0"
