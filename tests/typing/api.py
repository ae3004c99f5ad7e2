"""How the public face is used, for the type checker: checked, never executed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import assert_type

from pytest_ssot_isolation import (
    DatabaseTimeoutConfig,
    Finding,
    LeakFound,
    Report,
    Surface,
    UserExecutionContext,
    Verdict,
    clickhouse_database,
    current_context,
    keys,
    observed,
    operation,
    postgres_database,
    secrets,
)
from pytest_ssot_isolation.generation.planting import Canaries
from pytest_ssot_isolation.harness import Isolation
from pytest_ssot_isolation.provisioning.clickhouse import ClickhouseDatabase
from pytest_ssot_isolation.provisioning.postgres import PostgresDatabase


class App:
    async def put(self, user_id: str, title: str, body: str) -> str:
        return f"{user_id}/{title}: {body}"


class Notes(Surface[App]):
    @operation(title=keys(), body=secrets())
    async def write(self, title: str, body: str) -> str:
        assert_type(self.world, App)
        assert_type(self.user, UserExecutionContext)
        return await self.world.put(self.user.user_id, title, body)

    @operation(note=observed("write"))
    def read_by_id(self, note: str) -> str:
        return note


def a_check_gives_a_report(isolation: Isolation) -> None:
    report = isolation.check(Notes, world=App, users=3)
    assert_type(report, Report)
    assert_type(report.verdict, Verdict)
    assert_type(report.findings, tuple[Finding, ...])
    weakened = isolation.check(Notes, world=App, mutate=("drop_where", "cache_key")).mutants
    if weakened is not None:
        assert_type(weakened.killed, tuple[str, ...])
        assert_type(weakened.score, float)


def a_leak_carries_its_report(error: LeakFound) -> None:
    assert_type(error.report, Report)


def contexts(make_user_context: Callable[..., UserExecutionContext], canaries: Canaries) -> None:
    context = make_user_context("alice")
    assert_type(context.child(), UserExecutionContext)
    assert_type(current_context(), UserExecutionContext)
    assert_type(context.tenant_id, str | None)
    assert_type(canaries.scan("seen")[0].owner, UserExecutionContext)


def databases(postgres: PostgresDatabase, clickhouse: ClickhouseDatabase) -> None:
    assert_type(postgres.dsn, str)
    assert_type(postgres.url("psycopg"), str)
    postgres.apply(Path("schema.sql"))
    assert_type(clickhouse.dsn, str)
    assert_type(DatabaseTimeoutConfig.for_environment("ci").connect, float)


notes = postgres_database(schema="schema.sql", scope="module")
events = clickhouse_database(schema=[Path("events.sql")], protect={"events": "tenant_id"})
