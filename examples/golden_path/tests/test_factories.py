"""Each factory makes things for one user, and for nobody in particular never."""

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

Factory = Callable[[Any], Any]

each_factory = pytest.mark.parametrize(
    "factory", [create_agent_instance_factory, create_websocket_manager, get_clickhouse_service]
)


def user(number: int) -> UserExecutionContext:
    return UserExecutionContext(f"user-{number}", "north")


@pytest.mark.proves("ssot.factories", "resilience.invalid-context", "resilience.freed-instances")
@each_factory
def test_what_is_made_for_one_user_has_nothing_in_common_with_anothers(
    isolation: Any, factory: Factory
) -> None:
    isolation.check_factory(factory, contexts=user)


@pytest.mark.proves("resilience.many-factories")
@each_factory
async def test_many_factories_work_at_once(factory: Factory) -> None:
    users = [user(number) for number in range(1000)]
    made = await asyncio.gather(*(asyncio.to_thread(factory, one) for one in users))

    # Not two lists: where they differ, pytest would compare a thousand lines with a thousand others.
    assert all(one.context == whose for one, whose in zip(made, users, strict=True))


@pytest.mark.proves("isolation.websockets")
async def test_managers_made_at_the_same_time_deliver_to_their_own_user() -> None:
    class Socket:
        def __init__(self) -> None:
            self.sent: list[Any] = []

        async def send_json(self, data: Any) -> None:
            self.sent.append(data)

        async def close(self, code: int = 1000) -> None: ...

    async def connect(number: int) -> tuple[Any, Socket]:
        manager, socket = create_websocket_manager(user(number)), Socket()
        await asyncio.sleep(0)
        manager.add(socket)
        return manager, socket

    connected = await asyncio.gather(*map(connect, range(20)))
    await asyncio.gather(*(manager.send({"to": n}) for n, (manager, _) in enumerate(connected)))

    assert [socket.sent for _, socket in connected] == [[{"to": n}] for n in range(20)]


@each_factory
def test_each_user_gets_an_instance_of_their_own(factory: Factory) -> None:
    users = [UserExecutionContext(f"user-{number}", "north") for number in range(20)]
    made = [factory(user) for user in users]

    assert len({id(one) for one in made}) == 20
    # Not two lists: where they differ, pytest would compare a thousand lines with a thousand others.
    assert all(one.context == whose for one, whose in zip(made, users, strict=True))


@pytest.mark.proves("resilience.invalid-context")
@each_factory
@pytest.mark.parametrize("context", [None, "alice", {"user_id": "alice"}, object()])
def test_without_a_context_nothing_is_made(factory: Factory, context: object) -> None:
    with pytest.raises(ValueError, match="a UserExecutionContext is needed, not "):
        factory(context)


@pytest.mark.proves("ssot.factories")
def test_agents_of_one_user_start_without_memories() -> None:
    factory = create_agent_instance_factory(UserExecutionContext("alice"))

    assert factory.create().converse(["one"]) == "You told me: one"
    assert factory.create().converse(["two"]) == "You told me: two"


async def test_an_agent_without_notes_says_so() -> None:
    agent = create_agent_instance_factory(UserExecutionContext("alice")).create()

    with pytest.raises(LookupError, match="made without notes"):
        await agent.answer("plan")


@pytest.mark.parametrize(
    ("user_id", "problem"),
    [
        ("", "user_id is empty"),
        ("\u3000", "user_id is empty"),
        ("undefined", "user_id is a placeholder: 'undefined'"),
        ("NIL", "user_id is a placeholder: 'NIL'"),
        ("a\x00", "user_id holds a control character"),
        ("a\ud800", "user_id holds a control character"),
        ("x" * 256, "user_id has 256 characters; at most 255 are allowed"),
        (7, "user_id must be a string, not int"),
    ],
)
@pytest.mark.proves("resilience.malformed-context")
def test_a_malformed_user_is_refused(user_id: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        UserExecutionContext(user_id)


def test_requests_of_one_user_have_ids_of_their_own() -> None:
    first, second = UserExecutionContext("alice"), UserExecutionContext("alice")

    assert first.key == second.key
    assert len({first.request_id, second.request_id, first.run_id, second.run_id, first.thread_id}) == 5
