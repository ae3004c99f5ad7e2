"""The tests of ``golden_path/tests/test_isolation.py``, unchanged, on this package."""

from test_isolation import *  # noqa: F403
