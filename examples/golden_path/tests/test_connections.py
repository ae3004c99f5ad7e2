"""Connections to PostgreSQL: bound to one user, given back clean, measured, and guarded by a breaker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from golden_path import DatabaseTimeoutConfig, UserExecutionContext
from golden_path.breaker import CircuitBreaker
from golden_path.connections import ConnectionFactory
from golden_path.errors import CircuitOpen
from running import POSTGRES_SCHEMA

pytestmark = pytest.mark.postgres(schema=POSTGRES_SCHEMA)

ALICE, BOB = UserExecutionContext("alice", "north"), UserExecutionContext("bob", "south")
WHO = "SELECT current_setting('app.user_id', true)"


@pytest_asyncio.fixture
async def connections(postgres: Any) -> AsyncIterator[ConnectionFactory]:
    factory = ConnectionFactory(postgres.dsn, timeouts=DatabaseTimeoutConfig(), size=1)
    await factory.open()
    yield factory
    await factory.close()


async def fail(connections: ConnectionFactory, user: UserExecutionContext, error: Exception) -> None:
    with pytest.raises(type(error)):
        async with connections.transaction(user):
            raise error


@pytest.mark.proves("isolation.databases")
async def test_a_transaction_acts_as_its_user(connections: ConnectionFactory) -> None:
    for user in (ALICE, BOB):
        async with connections.transaction(user) as connection:
            assert await connection.fetchval(WHO) == user.user_id


@pytest.mark.proves("isolation.databases")
async def test_a_connection_comes_back_bound_to_nobody(connections: ConnectionFactory, postgres: Any) -> None:
    async with connections.transaction(ALICE) as connection:
        held = connection
        inside = await held.fetchval("SELECT pg_backend_pid()")
    async with connections._pool.acquire() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == inside
        assert await connection.fetchval(WHO) in (None, "")


async def test_a_failed_transaction_leaves_nothing(connections: ConnectionFactory) -> None:
    async def write_and_fail() -> None:
        async with connections.transaction(ALICE) as connection:
            await connection.execute("INSERT INTO note (title, body) VALUES ('plan', 'milk')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write_and_fail()
    async with connections.transaction(ALICE) as connection:
        assert await connection.fetchval("SELECT count(*) FROM note") == 0


@pytest.mark.proves("isolation.databases")
async def test_nobody_reads_past_row_security(connections: ConnectionFactory) -> None:
    async with connections.transaction(ALICE) as connection:
        await connection.execute("INSERT INTO note (title, body) VALUES ('plan', 'milk')")
    async with connections.transaction(BOB) as connection:
        assert await connection.fetch("SELECT * FROM note") == []
        assert await connection.fetch("SELECT * FROM note_title") == []


@pytest.mark.proves("resilience.invalid-context")
async def test_without_a_context_there_is_no_transaction(connections: ConnectionFactory) -> None:
    with pytest.raises(ValueError, match="a UserExecutionContext is needed"):
        async with connections.transaction(None):  # type: ignore[arg-type]
            pass


@pytest.mark.proves("connections.breaker-per-user")
async def test_a_breaker_opens_for_the_user_whom_the_server_fails(connections: ConnectionFactory) -> None:
    for _ in range(3):
        await fail(connections, ALICE, ConnectionResetError())

    with pytest.raises(CircuitOpen, match="the database keeps failing"):
        async with connections.transaction(ALICE):
            pass
    async with connections.transaction(BOB) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    assert connections.metrics.failures == 3


@pytest.mark.proves("connections.breaker-per-user")
async def test_a_users_own_mistakes_open_no_breaker(connections: ConnectionFactory) -> None:
    for _ in range(5):
        await fail(connections, ALICE, ValueError())

    async with connections.transaction(ALICE) as connection:
        assert await connection.fetchval("SELECT 1") == 1


@pytest.mark.proves("connections.figures")
async def test_the_pool_is_measured(connections: ConnectionFactory) -> None:
    async with connections.transaction(ALICE):
        pass

    metrics = connections.metrics
    assert metrics.connects.count == 1
    assert 0 < metrics.connects.median <= metrics.connects.p95 <= metrics.connects.highest
    assert metrics.waits.count == metrics.holds.count == 1


@pytest.mark.proves("connections.breaker")
def test_a_breaker_closes_again_after_a_while() -> None:
    now = 0.0
    breaker = CircuitBreaker(threshold=2, cooldown=10.0, clock=lambda: now)
    breaker.failed()
    breaker.failed()
    assert breaker.is_open

    now = 10.0
    breaker.admit()
    breaker.failed()
    with pytest.raises(CircuitOpen):
        breaker.admit()


@pytest.mark.proves("connections.timeouts")
@pytest.mark.parametrize("environment", ["local", "ci", "container"])
def test_each_environment_has_its_time_outs(environment: Any) -> None:
    timeouts = DatabaseTimeoutConfig.for_environment(environment)

    assert 0 < timeouts.connect <= 60
    assert timeouts.statement <= 30


@pytest.mark.proves("connections.timeouts")
def test_a_slower_environment_waits_longer() -> None:
    local, ci, container = map(DatabaseTimeoutConfig.for_environment, ("local", "ci", "container"))  # type: ignore[arg-type]

    assert local.connect < ci.connect < container.connect


@pytest.mark.proves("connections.timeouts")
def test_senseless_time_outs_are_refused() -> None:
    with pytest.raises(ValueError, match="connect must be more than 0 seconds, not 0"):
        DatabaseTimeoutConfig(connect=0)
    with pytest.raises(ValueError, match="unknown environment 'moon'"):
        DatabaseTimeoutConfig.for_environment("moon")  # type: ignore[arg-type]
