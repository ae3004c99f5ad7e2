"""Proves that one user of a Python application never sees, changes or disturbs another's things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pytest_ssot_isolation.errors import AuditError as AuditError
    from pytest_ssot_isolation.errors import BadExtension as BadExtension
    from pytest_ssot_isolation.errors import BadKnownFindings as BadKnownFindings
    from pytest_ssot_isolation.errors import Busy as Busy
    from pytest_ssot_isolation.errors import CutShort as CutShort
    from pytest_ssot_isolation.errors import DatabaseUnusable as DatabaseUnusable
    from pytest_ssot_isolation.errors import Deadlock as Deadlock
    from pytest_ssot_isolation.errors import DemoUnusable as DemoUnusable
    from pytest_ssot_isolation.errors import EngineForked as EngineForked
    from pytest_ssot_isolation.errors import EngineInUse as EngineInUse
    from pytest_ssot_isolation.errors import InconclusiveCheck as InconclusiveCheck
    from pytest_ssot_isolation.errors import InvalidContext as InvalidContext
    from pytest_ssot_isolation.errors import InvalidSecret as InvalidSecret
    from pytest_ssot_isolation.errors import InvalidTimeout as InvalidTimeout
    from pytest_ssot_isolation.errors import IsolationError as IsolationError
    from pytest_ssot_isolation.errors import LeakFound as LeakFound
    from pytest_ssot_isolation.errors import MissingContext as MissingContext
    from pytest_ssot_isolation.errors import MutationUnusable as MutationUnusable
    from pytest_ssot_isolation.errors import NoServer as NoServer
    from pytest_ssot_isolation.errors import NotATestDatabase as NotATestDatabase
    from pytest_ssot_isolation.errors import ProtectionRefused as ProtectionRefused
    from pytest_ssot_isolation.errors import Refused as Refused
    from pytest_ssot_isolation.errors import ReplayMismatch as ReplayMismatch
    from pytest_ssot_isolation.errors import ServerError as ServerError
    from pytest_ssot_isolation.errors import ServerFailed as ServerFailed
    from pytest_ssot_isolation.errors import ServerGivenUp as ServerGivenUp
    from pytest_ssot_isolation.errors import Stuck as Stuck
    from pytest_ssot_isolation.errors import SurfaceError as SurfaceError
    from pytest_ssot_isolation.errors import WebSocketClosed as WebSocketClosed
    from pytest_ssot_isolation.fixtures import clickhouse_database as clickhouse_database
    from pytest_ssot_isolation.fixtures import postgres_database as postgres_database
    from pytest_ssot_isolation.generation.strategies import context_sequences as context_sequences
    from pytest_ssot_isolation.generation.strategies import contexts as contexts
    from pytest_ssot_isolation.generation.strategies import hostile_ids as hostile_ids
    from pytest_ssot_isolation.generation.strategies import keys as keys
    from pytest_ssot_isolation.generation.strategies import observed as observed
    from pytest_ssot_isolation.generation.strategies import other_user as other_user
    from pytest_ssot_isolation.generation.strategies import secrets as secrets
    from pytest_ssot_isolation.model.context import UserExecutionContext as UserExecutionContext
    from pytest_ssot_isolation.model.context import current_context as current_context
    from pytest_ssot_isolation.model.report import Report as Report
    from pytest_ssot_isolation.model.verdict import Finding as Finding
    from pytest_ssot_isolation.model.verdict import Verdict as Verdict
    from pytest_ssot_isolation.provisioning.metrics import ConnectionMetrics as ConnectionMetrics
    from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig as DatabaseTimeoutConfig
    from pytest_ssot_isolation.surfaces.base import Surface as Surface
    from pytest_ssot_isolation.surfaces.base import operation as operation
    from pytest_ssot_isolation.surfaces.web import WebSurface as WebSurface

__version__ = "0.1.0"

# Whoever imports one name loads the module of that name and no other: pytest imports this package in every
# run of an environment that has it, and most runs use none of it.
_HOMES: Final = {
    "errors": (
        "AuditError",
        "BadExtension",
        "BadKnownFindings",
        "Busy",
        "CutShort",
        "DatabaseUnusable",
        "Deadlock",
        "DemoUnusable",
        "EngineForked",
        "EngineInUse",
        "InconclusiveCheck",
        "InvalidContext",
        "InvalidSecret",
        "InvalidTimeout",
        "IsolationError",
        "LeakFound",
        "MissingContext",
        "MutationUnusable",
        "NoServer",
        "NotATestDatabase",
        "ProtectionRefused",
        "Refused",
        "ReplayMismatch",
        "ServerError",
        "ServerFailed",
        "ServerGivenUp",
        "Stuck",
        "SurfaceError",
        "WebSocketClosed",
    ),
    "fixtures": ("clickhouse_database", "postgres_database"),
    "generation.strategies": (
        "context_sequences",
        "contexts",
        "hostile_ids",
        "keys",
        "observed",
        "other_user",
        "secrets",
    ),
    "model.context": ("UserExecutionContext", "current_context"),
    "model.report": ("Report",),
    "model.verdict": ("Finding", "Verdict"),
    "provisioning.metrics": ("ConnectionMetrics",),
    "provisioning.timeouts": ("DatabaseTimeoutConfig",),
    "surfaces.base": ("Surface", "operation"),
    "surfaces.web": ("WebSurface",),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AuditError",
    "BadExtension",
    "BadKnownFindings",
    "Busy",
    "ConnectionMetrics",
    "CutShort",
    "DatabaseTimeoutConfig",
    "DatabaseUnusable",
    "Deadlock",
    "DemoUnusable",
    "EngineForked",
    "EngineInUse",
    "Finding",
    "InconclusiveCheck",
    "InvalidContext",
    "InvalidSecret",
    "InvalidTimeout",
    "IsolationError",
    "LeakFound",
    "MissingContext",
    "MutationUnusable",
    "NoServer",
    "NotATestDatabase",
    "ProtectionRefused",
    "Refused",
    "ReplayMismatch",
    "Report",
    "ServerError",
    "ServerFailed",
    "ServerGivenUp",
    "Stuck",
    "Surface",
    "SurfaceError",
    "UserExecutionContext",
    "Verdict",
    "WebSocketClosed",
    "WebSurface",
    "clickhouse_database",
    "context_sequences",
    "contexts",
    "current_context",
    "hostile_ids",
    "keys",
    "observed",
    "operation",
    "other_user",
    "postgres_database",
    "secrets",
]


if not TYPE_CHECKING:  # With it, a type checker would take any misspelt name for a public one.

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        # Not kept here: where modules are imported anew, as pytester does in its process, a kept class
        # would be another than the one that the engine sees.
        return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
