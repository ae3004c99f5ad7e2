"""The tests of ``golden_path/tests/test_factories.py``, unchanged, on this package."""

from test_factories import *  # noqa: F403
