"""A small notes and agents service for many users, each of whom sees only what is theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from golden_path.agents import create_agent_instance_factory
    from golden_path.app import create_app
    from golden_path.context import UserExecutionContext
    from golden_path.timeouts import ConnectionMetrics, DatabaseTimeoutConfig
    from golden_path.usage import get_clickhouse_service
    from golden_path.websockets import create_websocket_manager

__all__ = [
    "ConnectionMetrics",
    "DatabaseTimeoutConfig",
    "UserExecutionContext",
    "create_agent_instance_factory",
    "create_app",
    "create_websocket_manager",
    "get_clickhouse_service",
]

_HOMES = {
    "ConnectionMetrics": "timeouts",
    "DatabaseTimeoutConfig": "timeouts",
    "UserExecutionContext": "context",
    "create_agent_instance_factory": "agents",
    "create_app": "app",
    "create_websocket_manager": "websockets",
    "get_clickhouse_service": "usage",
}


def __getattr__(name: str) -> Any:
    # Late, so that a job which needs only a context does not load the web framework.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
