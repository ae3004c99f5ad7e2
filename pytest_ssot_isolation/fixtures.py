"""The fixtures, and the factories of further ones; whatever is heavy is imported in their bodies."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import pytest

from pytest_ssot_isolation import options

if TYPE_CHECKING:
    from pytest_ssot_isolation.extensions import Extensions
    from pytest_ssot_isolation.generation.planting import Canaries
    from pytest_ssot_isolation.harness import Isolation
    from pytest_ssot_isolation.model.context import UserExecutionContext
    from pytest_ssot_isolation.provisioning.clickhouse import ClickhouseDatabase, ClickhouseServer
    from pytest_ssot_isolation.provisioning.postgres import PostgresDatabase
    from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer
    from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

Scope: TypeAlias = Literal["function", "class", "module", "package", "session"]
SchemaItem: TypeAlias = str | Path
Schema: TypeAlias = SchemaItem | Sequence[SchemaItem] | Callable[[str], object] | None

USERS: Final = 3
"""How many `user_contexts` there are where no marker says so."""


@pytest.fixture
def isolation(request: pytest.FixtureRequest) -> Isolation:
    """Checks that users of an application stay apart: ``isolation.check(Surface, world=...)``."""
    return isolation_of(request.node)


def isolation_of(item: pytest.Item) -> Isolation:
    """The harness of one test."""
    from pytest_ssot_isolation.harness import Isolation

    config = item.config
    return Isolation(
        settings=config.stash[options.SETTINGS],
        test_id=item.nodeid,
        typed=_as_typed(item),
        marker=_said_by_markers(item, "isolation"),
        resets=lambda: [database.reset_async for database in _databases_of(item)],
        root=config.rootpath,
        record=item.stash.setdefault(options.REPORT, []).append,
        blocked=lambda: _asks_for_blocked(_databases_of(item)),
        gone=lambda: _awaits_end(_databases_of(item)),
        databases=lambda: _databases_of(item),
        share=_share_of_budget(item.session, config.stash[options.SETTINGS]),
        known=config.stash.get(options.KNOWN, None),
        extensions=lambda: _extensions_of(config),
    )


def _as_typed(item: pytest.Item) -> str:
    """The id of a test, from the folder in which pytest was called."""
    root, called_in = item.config.rootpath, item.config.invocation_params.dir
    file, *names = item.nodeid.split("::")
    return item.nodeid if root == called_in else "::".join([os.path.relpath(root / file, called_in), *names])


def _extensions_of(config: pytest.Config) -> Extensions:
    """What other plugins add, asked once in a run."""
    from pytest_ssot_isolation.extensions import Extensions

    if options.EXTENSIONS not in config.stash:
        config.stash[options.EXTENSIONS] = Extensions.of(config)
    return config.stash[options.EXTENSIONS]


def _asks_for_blocked(databases: Sequence[Any]) -> Callable[[], int] | None:
    """What counts the sessions that wait for another's lock, where a database can tell."""
    ask = [database.blocked_pids for database in databases if hasattr(database, "blocked_pids")]
    return (lambda: sum(len(blocked()) for blocked in ask)) if ask else None


def _awaits_end(databases: Sequence[Any]) -> Callable[[int], None] | None:
    """What waits until each database has let go of a dropped connection, where one can tell."""
    ends = [database.end_session for database in databases if hasattr(database, "end_session")]

    def gone(port: int) -> None:
        for end in ends:
            end(port)

    return gone if ends else None


@pytest.fixture
def make_user_context(request: pytest.FixtureRequest) -> Callable[..., UserExecutionContext]:
    """Makes contexts of different users: ``make_user_context(user_id=..., tenant_id=..., roles=...)``.

    Ids left out are made up: no two calls in a test give the same user or the same tenant, and the same
    test has the same ids in each run with one seed.
    """
    return _context_maker(request.node.nodeid, request.config.stash[options.SETTINGS].seed)


@pytest.fixture
def user_contexts(
    request: pytest.FixtureRequest, make_user_context: Callable[..., UserExecutionContext]
) -> tuple[UserExecutionContext, ...]:
    """As many users as the test's marker says (``users=``), three without; each in a tenant of its own."""
    markers = _said_by_markers(request.node, "concurrency") | _said_by_markers(request.node, "isolation")
    return tuple(make_user_context() for _ in range(int(markers.get("users", USERS))))


@pytest.fixture
def user_context(make_user_context: Callable[..., UserExecutionContext]) -> UserExecutionContext:
    """One user."""
    return make_user_context()


@pytest.fixture
def canaries(request: pytest.FixtureRequest) -> Canaries:
    """Mints secrets that name their owner, and finds them again in whatever somebody sees."""
    from pytest_ssot_isolation.generation.planting import Canaries

    settings = request.config.stash[options.SETTINGS]
    return Canaries(_nonce(request.node.nodeid, settings.seed).encode())


@pytest.fixture(scope="session")
def database_timeouts() -> DatabaseTimeoutConfig:
    """The time-outs of the servers; override it in a conftest to set others."""
    from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

    if os.environ.get("CI"):
        # A first start of ClickHouse's image took two minutes on some shared machines.
        return DatabaseTimeoutConfig.for_environment("ci", start=150.0)
    return DatabaseTimeoutConfig.for_environment("local")


@pytest.fixture(scope="session")
def ssot_servers(
    request: pytest.FixtureRequest, database_timeouts: DatabaseTimeoutConfig
) -> Iterator[Callable[..., Any]]:
    """Gives the server of an engine, image and version, started at the first request for it."""
    from pytest_ssot_isolation.provisioning import servers

    with ExitStack() as until_the_end:
        yield servers.on_first_use(
            request.config.stash[options.SETTINGS],
            database_timeouts,
            until_the_end,
            tell=lambda line: request.config.stash[options.SERVERS].setdefault(line),
        )


@pytest.fixture(scope="session")
def postgres_server(ssot_servers: Callable[..., PostgresServer]) -> PostgresServer:
    """A real PostgreSQL server, shared by the tests of the run."""
    return ssot_servers("postgres")


@pytest.fixture(scope="session")
def clickhouse_server(ssot_servers: Callable[..., ClickhouseServer]) -> ClickhouseServer:
    """A real ClickHouse server, shared by the tests of the run."""
    return ssot_servers("clickhouse")


def postgres_database(*, schema: Schema = None, scope: Scope = "function") -> Any:
    """Return a fixture: a PostgreSQL database of its own, given back when its scope ends.

    Args:
        schema: What is loaded into it: a file (found beside the module that calls this, beside the test, or
            from the root), a list of files, or a callable that is given the owner's DSN. What
            ``@pytest.mark.postgres(schema=...)`` says comes before it.
        scope: How long the database lives.
    """
    return _database_fixture("postgres", schema, scope, {})


def clickhouse_database(
    *,
    schema: Schema = None,
    protect: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    scope: Scope = "function",
) -> Any:
    """Return a fixture: a ClickHouse database of its own, dropped when its scope ends.

    Args:
        schema: As for `postgres_database`; ``@pytest.mark.clickhouse(schema=...)`` comes before it.
        protect: Tables and their tenant columns; each gets a row policy.
        scope: How long the database lives.
    """
    return _database_fixture("clickhouse", schema, scope, {"protect": protect})


def _database_fixture(engine: str, schema: Schema, scope: Scope, options_of_engine: dict[str, Any]) -> Any:
    made_in = Path(sys._getframe(2).f_globals.get("__file__", ""))

    @pytest.fixture(scope=scope)
    def database(request: pytest.FixtureRequest) -> Generator[PostgresDatabase | ClickhouseDatabase]:
        from pytest_ssot_isolation.provisioning import servers

        said = _said_by_markers(request.node, engine)
        version, image = said.pop("version", None), said.pop("image", None)
        wanted = said.pop("schema", schema)
        if version or image:
            server = request.getfixturevalue("ssot_servers")(engine, version=version, image=image)
        else:
            server = request.getfixturevalue(f"{engine}_server")
        places = [made_in.parent, _folder_of(request.node), request.config.rootpath]
        opened = request.config.stash[options.DATABASES]
        with server.new_database(servers.find_schema(wanted, places), **options_of_engine | said) as fresh:
            opened.append((request.node, fresh))
            try:
                yield fresh
            finally:
                opened.remove((request.node, fresh))

    return database


postgres = postgres_database()
clickhouse = clickhouse_database()


def _folder_of(node: pytest.Item | pytest.Collector) -> Path:
    path = getattr(node, "path", node.config.rootpath)
    return path if path.is_dir() else path.parent


def _said_by_markers(node: Any, name: str) -> dict[str, Any]:
    """What the markers of one name say, the nearest to the test last and so the strongest."""
    said: dict[str, Any] = {}
    for marker in reversed(list(node.iter_markers(name))):
        if marker.args:
            example = "schema='schema.sql'" if name in ("postgres", "clickhouse") else "users=3"
            raise pytest.UsageError(
                f"{node.nodeid}: @pytest.mark.{name} takes its arguments by name, as in"
                f" @pytest.mark.{name}({example})."
            )
        said |= marker.kwargs
    return said


def _databases_of(item: pytest.Item) -> list[Any]:
    """The open databases that a test asked for, in the order in which they were opened."""
    asked = [id(value) for value in getattr(item, "funcargs", {}).values()]
    return [
        database
        for node, database in item.config.stash[options.DATABASES]
        # One of a wider scope may be open because of another test only.
        if node is item or id(database) in asked
    ]


def _share_of_budget(session: pytest.Session, settings: options.Settings) -> float | None:
    """The seconds that each check may take, out of those of the whole run; None for the profile's own."""
    seconds = settings.budget if settings.budget or settings.profile != "deep" else options.DEEP_BUDGET
    if seconds is None:
        return None
    checks = sum(1 for item in session.items if item.get_closest_marker("isolation"))
    return seconds / max(checks, 1)


def _nonce(test_id: str, seed: int) -> str:
    from hashlib import blake2b

    return blake2b(f"{seed} {test_id}".encode(), digest_size=5).hexdigest()


def _context_maker(test_id: str, seed: int) -> Callable[..., UserExecutionContext]:
    from itertools import count

    from pytest_ssot_isolation.model.context import UserExecutionContext

    nonce, numbers = _nonce(test_id, seed), count(1)

    def make(user_id: str | None = None, **given: Any) -> UserExecutionContext:
        number = next(numbers)
        given.setdefault("tenant_id", f"tenant-{number}-{nonce}")
        return UserExecutionContext(f"user-{number}-{nonce}" if user_id is None else user_id, **given)

    return make
