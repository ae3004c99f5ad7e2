"""``python -m pytest_ssot_isolation``: the same as ``ssot-isolation``."""

from pytest_ssot_isolation.cli import main

raise SystemExit(main())
