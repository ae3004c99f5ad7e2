"""The tests of ``golden_path/tests/test_service.py``, unchanged, on this package."""

from test_service import *  # noqa: F403
