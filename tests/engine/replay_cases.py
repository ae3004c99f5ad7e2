"""What is replayed: worlds whose steps an event loop would order otherwise each time."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

Act = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def in_memory() -> AsyncIterator[Sequence[Act]]:
    """A lock, sleeps, a time-out, gather, a task group, worker threads that take as long as they like."""
    lock, order = asyncio.Lock(), []

    def work(user: int) -> int:
        time.sleep(random.random() / 2000)
        return user

    def actor(user: int) -> Act:
        async def part(name: str) -> str:
            await asyncio.sleep(0.1 * user)
            order.append((user, name))
            return name

        async def act() -> list[Any]:
            seen: list[Any] = []
            async with lock:
                await asyncio.sleep(0)
                seen.append(len(order))
            seen += await asyncio.gather(part("x"), part("y"))
            try:
                async with asyncio.timeout(0.3):
                    await asyncio.sleep(0.25 + 0.1 * user)
                    seen.append("slept")
            except TimeoutError:
                seen.append("timed out")
            seen.append(await asyncio.get_running_loop().run_in_executor(None, work, user))
            async with asyncio.TaskGroup() as group:
                group.create_task(part("p"))
                group.create_task(part("q"))
            seen.append(tuple(order))
            return seen

        return act

    yield [actor(user) for user in range(3)]


@asynccontextmanager
async def anyio_groups() -> AsyncIterator[Sequence[Act]]:
    """anyio's task groups, limiter, cancel scopes, memory streams and threads."""
    import anyio
    import anyio.to_thread

    limiter, order = anyio.CapacityLimiter(1), []
    send, receive = anyio.create_memory_object_stream[int](2)

    def actor(user: int) -> Act:
        async def child(name: str) -> None:
            async with limiter:
                await anyio.sleep(0.1)
                order.append((user, name))

        def answer_late() -> int:
            time.sleep(random.random() / 2000)
            return user

        async def act() -> list[Any]:
            async with anyio.create_task_group() as group:
                group.start_soon(child, "x")
                group.start_soon(child, "y")
            with anyio.move_on_after(0.15 * (user + 1)) as scope:
                await anyio.sleep(0.3)
            await send.send(user)
            got = await receive.receive()
            there = await anyio.to_thread.run_sync(answer_late)
            return [scope.cancelled_caught, got, there, tuple(order)]

        return act

    with send, receive:
        yield [actor(user) for user in range(3)]


def _web_app() -> Any:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    hits: list[str] = []
    lock = asyncio.Lock()

    async def after(user: str) -> None:
        await asyncio.sleep(0)
        hits.append("after " + user)

    async def show(request: Any) -> Any:
        user = request.query_params["user"]
        async with lock:
            hits.append(user)
            await asyncio.sleep(0)
            seen = list(hits)
        await asyncio.sleep(0)
        return JSONResponse({"seen": seen}, background=BackgroundTask(after, user))

    return Starlette(routes=[Route("/show", show)])


def _clients(make: Callable[[], Any], hits: int) -> Sequence[Act]:
    def actor(user: int) -> Act:
        async def act() -> list[Any]:
            seen = []
            async with make() as client:
                for _ in range(hits):
                    seen.append((await client.get("/show", params={"user": "abc"[user]})).json())
            return seen

        return act

    return [actor(user) for user in range(3)]


@asynccontextmanager
async def http_over_asgi() -> AsyncIterator[Sequence[Act]]:
    """httpx against an application in the same loop, without a socket."""
    import httpx

    app = _web_app()
    yield _clients(
        lambda: httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://app"), hits=2
    )


@asynccontextmanager
async def http_over_loopback() -> AsyncIterator[Sequence[Act]]:
    """httpx against uvicorn, which serves in the same loop over real sockets."""
    import httpx
    import uvicorn

    class Quiet(uvicorn.Server):
        def install_signal_handlers(self) -> None:
            pass

    config = uvicorn.Config(_web_app(), port=0, log_level="critical", lifespan="off")
    server = Quiet(config)
    server.config.load()
    serving = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield _clients(lambda: httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}"), hits=2)
    server.should_exit = True
    await serving


WITHOUT_SERVERS = (in_memory, anyio_groups, http_over_asgi, http_over_loopback)


# -- PostgreSQL --------------------------------------------------------------------------------------

SCHEMA = """
CREATE TABLE note (id serial PRIMARY KEY, owner text, body text);
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
ALTER TABLE note FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON note USING (owner = current_setting('app.user', true)) WITH CHECK (true);
GRANT ALL ON note TO PUBLIC;
GRANT ALL ON SEQUENCE note_id_seq TO PUBLIC;
"""


def asyncpg_pool(size: int, *, locks: bool = False) -> Callable[[str], Any]:
    """asyncpg with a pool, a table with row security, and on request an advisory lock."""

    @asynccontextmanager
    async def world(dsn: str) -> AsyncIterator[Sequence[Act]]:
        import asyncpg

        async with asyncpg.create_pool(dsn, min_size=size, max_size=size) as pool:

            def actor(user: int) -> Act:
                async def act() -> list[Any]:
                    seen: list[Any] = []
                    async with pool.acquire() as connection, connection.transaction():
                        if locks:
                            await connection.execute("SELECT pg_advisory_xact_lock(7)")
                        await connection.execute("SELECT set_config('app.user', $1, true)", f"u{user}")
                        seen.append(
                            await connection.fetchval(
                                "INSERT INTO note (owner, body) VALUES ($1, $2) RETURNING id",
                                f"u{user}",
                                "text",
                            )
                        )
                    async with pool.acquire() as connection, connection.transaction():
                        await connection.execute("SELECT set_config('app.user', $1, true)", f"u{user}")
                        seen.append(
                            [row["id"] for row in await connection.fetch("SELECT id FROM note ORDER BY id")]
                        )
                    return seen

                return act

            yield [actor(user) for user in range(3)]

    return world


@asynccontextmanager
async def psycopg_connections(dsn: str) -> AsyncIterator[Sequence[Act]]:
    """psycopg's asynchronous connections, one for each user."""
    import psycopg

    connections = [await psycopg.AsyncConnection.connect(dsn, autocommit=True) for _ in range(3)]

    def actor(user: int) -> Act:
        async def act() -> list[Any]:
            connection = connections[user]
            async with connection.transaction():
                await connection.execute("SELECT set_config('app.user', %s, true)", [f"u{user}"])
                made = await connection.execute(
                    "INSERT INTO note (owner, body) VALUES (%s, %s) RETURNING id", [f"u{user}", "text"]
                )
                return [await made.fetchone()]

        return act

    yield [actor(user) for user in range(3)]
    for connection in connections:
        await connection.close()


@asynccontextmanager
async def sqlalchemy_sessions(dsn: str) -> AsyncIterator[Sequence[Act]]:
    """SQLAlchemy's asyncio over asyncpg, whose steps run in greenlets."""
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

    url = dsn.replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(url, pool_size=2, max_overflow=0)
    sessions = async_sessionmaker(engine)

    def actor(user: int) -> Act:
        async def act() -> list[Any]:
            async with sessions() as session, session.begin():
                await session.execute(text("SELECT set_config('app.user', :u, true)"), {"u": f"u{user}"})
                made = await session.execute(
                    text("INSERT INTO note (owner, body) VALUES (:u, 'text') RETURNING id"), {"u": f"u{user}"}
                )
                return [made.scalar_one()]

        return act

    yield [actor(user) for user in range(3)]
    await engine.dispose()


ON_POSTGRES: dict[str, Callable[[str], Any]] = {
    "asyncpg, pool of 3": asyncpg_pool(3),
    "asyncpg, pool of 1": asyncpg_pool(1),
    "asyncpg, advisory lock of a parked user": asyncpg_pool(3, locks=True),
    "psycopg": psycopg_connections,
    "sqlalchemy": sqlalchemy_sessions,
}


# -- the measure -------------------------------------------------------------------------------------


def replay(
    stage: Any,
    world: Callable[[], Any],
    times: int,
    *,
    walks: Sequence[int] = (1, 2, 3, 4, 5, 6),
    most: int = 2,
    in_flight: bool = True,
) -> dict[int, Any]:
    """Run random walks once, then what they recorded again and again.

    Args:
        stage: Where.
        world: Gives the users.
        times: Replays of each walk.
        walks: Seeds of the walks.
        most: Walks that are measured.
        in_flight: Whether walks count that send a request while another is under way. Which of the two a
            server outside takes up first is then the server's choice, and no harness can replay it.

    Returns:
        For each walk: the number of different traces, of different outcomes, and the milliseconds of a run.
    """
    from collections import Counter

    result: dict[int, Any] = {}
    for walk in (None, *walks):

        async def once(chosen: Any) -> Any:
            async with world() as acts:
                run = stage.make(acts, **chosen, calls=2)
                return await run.perform()

        first = stage.host.run(once({"walk": walk}))
        if walk is None:
            continue  # the first run of all differs: drivers look types up, modules are imported
        assert first.trouble is None, first.trouble
        schedule = first.schedule
        if len(result) == most or (schedule.in_flight and not in_flight):
            continue
        traces, outcomes = Counter([first.trace]), Counter([told(first)])
        began = time.perf_counter()
        for _ in range(times):
            again = stage.host.run(once({"schedule": schedule, "strict": True}))
            assert again.trouble is None, again.trouble
            traces[again.trace] += 1
            outcomes[told(again)] += 1
        took = 1000 * (time.perf_counter() - began) / max(1, times)
        result[walk] = (
            len(traces),
            len(outcomes),
            took,
            len(schedule.blocked),
            len(schedule.anchors),
            traces,
        )
    return result


def told(history: Any) -> str:
    """Everything that everybody saw, with its order."""
    seen = repr([(o.user, o.call, o.outcome, o.seen, o.began, o.ended) for o in history.observations])
    return re.sub(r"127\.0\.0\.1:\d+", "server", seen)  # the port is the system's choice
