"""The tests of ``golden_path/tests/test_connections.py``, unchanged, on this package."""

from test_connections import *  # noqa: F403
