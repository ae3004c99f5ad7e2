"""The user of the request that is being answered, for code that is far from the request."""

from __future__ import annotations

from golden_path.context import UserExecutionContext

user: UserExecutionContext | None = None
