"""The tests of ``golden_path/tests/test_speed.py``, unchanged, on this package."""

from test_speed import *  # noqa: F403
