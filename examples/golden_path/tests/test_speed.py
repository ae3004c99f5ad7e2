"""How long it takes to make what each user gets, for one user and for many at once; budgets: ``claims.toml``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from golden_path import (
    UserExecutionContext,
    create_agent_instance_factory,
    create_websocket_manager,
    get_clickhouse_service,
)
from running import CLICKHOUSE_SCHEMA, POSTGRES_SCHEMA, EventStream, client_of, running, sign_in

for_so_many = pytest.mark.parametrize("users", [1, 3, 20, 1000])


@pytest.fixture
def measure(benchmark: Any) -> Callable[..., None]:
    """Measure what is done for so many users."""

    def take(users: int, make: Callable[[Any], object], given: Callable[[int], Any]) -> None:
        benchmark.extra_info["users"] = users
        each = [given(number) for number in range(users)]
        assert len(benchmark(lambda: [make(one) for one in each])) == users

    return take


def user(number: int) -> UserExecutionContext:
    return UserExecutionContext(f"user-{number}", "north")


@pytest.mark.proves("performance.context-creation")
@for_so_many
def test_a_context_is_made_at_once(measure: Any, users: int) -> None:
    measure(users, UserExecutionContext, lambda number: f"user-{number}")


@pytest.mark.proves("performance.agent-factory")
@for_so_many
def test_an_agent_factory_is_made_at_once(measure: Any, users: int) -> None:
    measure(users, create_agent_instance_factory, user)


@pytest.mark.proves("performance.websocket-manager")
@for_so_many
def test_a_websocket_manager_is_made_at_once(measure: Any, users: int) -> None:
    measure(users, create_websocket_manager, user)


@pytest.mark.proves("performance.database-service")
@for_so_many
def test_a_database_service_is_made_at_once(measure: Any, users: int) -> None:
    measure(users, get_clickhouse_service, user)


@pytest.mark.proves("performance.many-users")
@pytest.mark.parametrize("users", [3, 20, 1000])
def test_managers_of_many_users_are_made_at_the_same_time(benchmark: Any, users: int) -> None:
    contexts = [user(number) for number in range(users)]

    async def make(context: UserExecutionContext) -> object:
        return create_websocket_manager(context)

    async def make_all() -> int:
        return len(await asyncio.gather(*map(make, contexts)))

    benchmark.extra_info["users"] = users
    with asyncio.Runner() as runner:
        assert benchmark(lambda: runner.run(make_all())) == users


@pytest.mark.proves("performance.websocket-manager")
@pytest.mark.postgres(schema=POSTGRES_SCHEMA)
@pytest.mark.clickhouse(schema=CLICKHOUSE_SCHEMA)
def test_a_websocket_is_connected(benchmark: Any, postgres: Any, clickhouse: Any) -> None:
    async def connect() -> None:
        stream = EventStream(app, authorization)
        await stream.open()
        await stream.close()

    async def authorize() -> str:
        async with client_of(app) as http:
            await sign_in(http, "alice", "north")
            return http.headers["authorization"]

    with asyncio.Runner() as runner:
        service = running(postgres, clickhouse)
        app = runner.run(service.__aenter__())
        authorization = runner.run(authorize())
        benchmark.pedantic(lambda: runner.run(connect()), rounds=20)
        runner.run(service.__aexit__(None, None, None))
