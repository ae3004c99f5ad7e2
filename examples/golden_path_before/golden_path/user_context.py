"""Where ``UserExecutionContext`` used to be; it is in ``golden_path`` now."""

from __future__ import annotations

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "UserExecutionContext":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "golden_path.user_context is deprecated: import UserExecutionContext from golden_path",
        DeprecationWarning,
        stacklevel=2,
    )
    from golden_path.context import UserExecutionContext

    return UserExecutionContext
