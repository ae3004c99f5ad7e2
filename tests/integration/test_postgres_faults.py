"""What goes wrong with PostgreSQL: one clear error with the remedy, soon, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from pytest_ssot_isolation.errors import (
    DatabaseUnusable,
    NoServer,
    NotATestDatabase,
    ServerError,
    ServerFailed,
)
from pytest_ssot_isolation.provisioning import lease, postgres
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.postgres import postmaster, programs
from pytest_ssot_isolation.provisioning.postgres.database import PostgresDatabase
from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

SECRET = "planted-secret"


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="ssot-fault-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def fake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs to put stand-ins into; the machine's own are not found."""
    found = programs.find()
    assert isinstance(found, programs.Programs)
    real = found.folder
    if not all(parent.stat().st_mode & 0o001 for parent in (real, *real.parents)):
        # As in tox's folder: a link into it is no use to whom the programs run as.
        real = postmaster._copy_programs(real, folder / "wheel")
    copy = folder / "programs" / "bin"
    copy.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (copy / name).symlink_to(real / name)
    monkeypatch.setattr(programs, "_folders", lambda: iter([copy]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return copy


def put(path: Path, script: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def start(folder: Path, within: float = 20.0, version: str | None = None) -> PostgresServer:
    timeouts = DatabaseTimeoutConfig.for_environment("local", start=within)
    return postgres.lease(
        Wanted(
            engine="postgres",
            spec="embedded",
            version=version,
            run_id=str(folder),
            folder=folder / "runs",
            timeouts=timeouts,
        )
    )


def nothing_is_left(folder: Path) -> bool:
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        if not list(lease.root(folder / "runs").iterdir()):
            return True
        time.sleep(0.05)
    return False


# Embedded


def test_without_any_programs_the_error_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_folders", lambda: iter([folder]))

    with pytest.raises(
        NoServer, match=r"embedded: PostgreSQL's programs are not installed: pip install 'pytest-ssot"
    ):
        start(folder)


def test_programs_that_are_too_old_are_named_with_the_oldest_that_will_do(fake: Path, folder: Path) -> None:
    put(fake / "postgres", "echo 'postgres (PostgreSQL) 12.22'")

    with pytest.raises(
        NoServer, match=r"PostgreSQL 12\.22 in .* is too old, 14 is the oldest usable: pip install"
    ):
        start(folder)


def test_a_version_that_is_not_here_is_told_with_those_that_are(folder: Path) -> None:
    with pytest.raises(NoServer, match=r"PostgreSQL 99 is not among the programs found here \(1"):
        start(folder, version="99")


def test_a_failing_start_quotes_the_servers_own_words(fake: Path, folder: Path) -> None:
    real = (fake / "postgres").resolve()
    put(
        fake / "postgres",
        f'case "$*" in *--listen*) echo "the moon is full" >&2; exit 3;; esac; exec {real} "$@"',
    )

    began = time.monotonic()
    with pytest.raises(
        ServerFailed, match=r"(?s)did not start: it ended with exit status 3.*the moon is full"
    ):
        start(folder)
    assert time.monotonic() - began < 20
    assert nothing_is_left(folder)


def test_a_server_that_never_becomes_ready_is_given_up_in_time(fake: Path, folder: Path) -> None:
    real = (fake / "postgres").resolve()
    put(fake / "postgres", f'case "$*" in *--listen*) sleep 60;; esac; exec {real} "$@"')

    began = time.monotonic()
    with pytest.raises(
        ServerFailed,
        match=r"(?s)(did not become ready in time|was not ready within|initdb did not end in time).*named 'start'",
    ):
        start(folder, within=4)
    assert time.monotonic() - began < 20
    assert nothing_is_left(folder)


def test_a_port_that_somebody_takes_meanwhile_is_exchanged_for_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken, socket.socket() as free:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free.bind(("127.0.0.1", 0))
        ports = [taken.getsockname()[1], free.getsockname()[1]]
        free.close()
        monkeypatch.setattr(postmaster, "_free_port", lambda: ports.pop(0))
        home = folder / "home"
        home.mkdir(mode=0o711)
        found = programs.find()
        assert isinstance(found, programs.Programs)
        running = postmaster.start(
            home, {"programs": str(found.folder), "version": found.version, "kept": None, "timeout": 20}
        )
    running.stop()

    assert ports == []


def test_ports_that_are_all_taken_are_told_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "home"
    home.mkdir(mode=0o711)
    found = programs.find()
    assert isinstance(found, programs.Programs)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(postmaster, "_free_port", lambda: taken.getsockname()[1])
        with pytest.raises(
            ServerFailed, match=r"(?s)Address already in use.*takes every port asked for; end it"
        ):
            postmaster.start(
                home, {"programs": str(found.folder), "version": found.version, "kept": None, "timeout": 20}
            )


def test_a_damaged_kept_folder_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    start(folder).close()
    assert nothing_is_left(folder)
    (control,) = (folder / "cache").rglob("pg_control")
    control.write_bytes(b"damaged")

    with start(folder) as server, server.new_database() as database:
        database.apply("SELECT 1")
    assert next((folder / "cache").rglob("pg_control")).read_bytes() != b"damaged"


def test_a_kept_folder_makes_no_server_of_another_users_making(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    start(folder).close()

    (kept,) = (folder / "cache" / "pytest-ssot-isolation").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    assert (kept / "password").stat().st_mode & 0o077 == 0


@pytest.fixture
def tiny(folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of 20 MB, or as many as its parameter says."""
    size = getattr(request, "param", 20)
    disk = folder / "tiny"
    disk.mkdir()
    mounted = os.getuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=755", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if not mounted or mounted.returncode:
        pytest.skip("only root may mount a disk as small as this test needs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_told_with_where_to_free_some(
    tiny: Path, fake: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    (folder / "runs").symlink_to(tiny)

    with pytest.raises(ServerFailed, match=r"(?s)free disk space.*Free some space below .*, or set TMPDIR"):
        start(folder)
    assert nothing_is_left(folder)


def fill(database: PostgresDatabase) -> None:
    for _ in range(60):
        database.apply("INSERT INTO t SELECT repeat(md5(i::text), 60) FROM generate_series(1, 2000) AS i")


# Room for the server, a template and the clones that are made ahead of their tests.
@pytest.mark.parametrize("tiny", [160], indirect=True)
def test_a_disk_that_fills_in_the_middle_of_a_test_is_told_with_the_remedy(tiny: Path, folder: Path) -> None:
    (folder / "runs").symlink_to(tiny)
    with start(folder) as server:
        database = server.new_database("CREATE TABLE t (body text)")
        began = time.monotonic()
        # PostgreSQL may go down over it, when it is its log that finds no room.
        with pytest.raises(
            (ServerFailed, DatabaseUnusable),
            match=r"(?s)No space left on device.*[Ff]ree some space, or set TMPDIR",
        ):
            fill(database)
        assert time.monotonic() - began < 20
        with contextlib.suppress(ServerError):
            database.close()
    assert nothing_is_left(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root has to run the programs as somebody else")
def test_programs_that_nobody_else_may_reach_are_copied(
    fake: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = (fake / "postgres").resolve().parents[2]
    hidden = folder / "hidden"
    hidden.mkdir(mode=0o700)
    for tree in found.parent.glob(f"{found.name}*"):
        if tree.name in (found.name, f"{found.name}.libs"):
            (hidden / tree.name).symlink_to(tree) if tree.suffix else shutil.copytree(
                tree, hidden / tree.name
            )
    programs_folder = hidden / (fake / "postgres").resolve().parent.relative_to(found.parent)
    monkeypatch.setattr(programs, "_folders", lambda: iter([programs_folder]))

    with start(folder) as server, server.new_database() as database:
        database.apply("SELECT 1")
    assert nothing_is_left(folder)


# By DSN


@pytest.fixture(scope="module")
def other() -> Iterator[PostgresServer]:
    """A server that stands in for somebody else's."""
    with postgres.lease(Wanted(engine="postgres", spec="embedded", run_id="somebody-else")) as server:
        yield server


def execute(dsn: str, *statements: str) -> None:
    async def talk() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(talk())


def names(server: PostgresServer) -> set[str]:
    async def talk() -> set[str]:
        connection = await asyncpg.connect(server._admin.url())
        try:
            rows = await connection.fetch(
                "SELECT datname AS n FROM pg_database UNION SELECT rolname FROM pg_roles"
            )
            return {row["n"] for row in rows}
        finally:
            await connection.close()

    return asyncio.run(talk())


@pytest.fixture
def given(other: PostgresServer) -> Iterator[PostgresServer]:
    """A database app_test and one named prod, and roles with more and less power."""
    admin = other._admin.url()
    execute(
        admin,
        f"CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD '{SECRET}'",
        f"CREATE ROLE keeper LOGIN CREATEROLE PASSWORD '{SECRET}'",
        f"CREATE ROLE plain LOGIN PASSWORD '{SECRET}'",
        "CREATE DATABASE app_test OWNER keeper",
        "CREATE DATABASE prod",
        "CREATE DATABASE marked",
    )
    execute(other._admin.at("marked").url(), "CREATE TABLE ssot_isolation_may_write ()")
    yield other
    execute(
        admin,
        *(f"DROP DATABASE {name} WITH (FORCE)" for name in ("app_test", "prod", "marked")),
        *(f"DROP ROLE {name}" for name in ("maker", "keeper", "plain")),
    )


def dsn(server: PostgresServer, user: str, database: str = "app_test", secret: str = SECRET) -> str:
    return server._admin.as_role(user, secret).at(database).url()


def by_dsn(dsn: str, run_id: str) -> PostgresServer:
    timeouts = DatabaseTimeoutConfig.for_environment("local", connect=1.0)
    return postgres.lease(Wanted(engine="postgres", spec=dsn, run_id=run_id, timeouts=timeouts))


POLICY = """
    CREATE TABLE notes (id serial, tenant text);
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    ALTER TABLE notes FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON notes USING (tenant = current_setting('app.tenant_id', true));
"""


@pytest.mark.parametrize("role", ["postgres", "maker", "keeper"])
def test_each_role_that_can_do_enough_gives_tests_the_same(given: PostgresServer, role: str) -> None:
    before = names(given)
    place = given._admin.at("app_test").url() if role == "postgres" else dsn(given, role)

    class Alice:
        user_id = "alice o'hara \\ x"
        tenant_id = "A"

    with by_dsn(place, f"given {role}") as server:
        assert server.way == "dsn"
        for _ in range(2):
            with server.new_database(POLICY) as database:
                alice = database.dsn_for(Alice)
                execute(alice, "INSERT INTO notes (tenant) VALUES (current_setting('app.tenant_id'))")
                execute(
                    alice,
                    "DO $$ BEGIN ASSERT (SELECT count(*) FROM notes) = 1;"
                    " ASSERT (SELECT min(id) FROM notes) = 1, 'the sequence did not begin anew';"
                    r" ASSERT current_setting('app.user_id') = E'alice o''hara \\ x'; END $$",
                )
                execute(database.dsn, "DO $$ BEGIN ASSERT (SELECT count(*) FROM notes) = 0; END $$")
    assert names(given) == before, "nothing may be left on a server that is not ours"


def test_a_role_that_may_make_no_databases_serves_one_worker_at_a_time(given: PostgresServer) -> None:
    with (
        by_dsn(dsn(given, "keeper"), "first"),
        pytest.raises(
            ServerFailed, match=r'(?s)in use by another worker or run.*ALTER ROLE "keeper" CREATEDB'
        ),
    ):
        by_dsn(dsn(given, "keeper"), "second")


def test_two_runs_on_one_server_leave_each_other_alone(given: PostgresServer) -> None:
    with by_dsn(dsn(given, "maker"), "run one") as one, one.new_database(POLICY) as database:
        with by_dsn(dsn(given, "maker"), "run two") as two, two.new_database(POLICY) as another:
            another.apply("SELECT 1")
        execute(database.dsn, "SELECT * FROM notes")


def test_what_a_killed_run_left_is_swept_by_the_next(given: PostgresServer) -> None:
    before = names(given)
    execute(given._admin.url(), "CREATE ROLE ssot_0123456789_app", "CREATE DATABASE ssot_0123456789_gw0_0")

    with by_dsn(given._admin.at("app_test").url(), "the next run"):
        pass
    assert names(given) == before


@pytest.mark.parametrize(
    ("user", "database", "secret", "error", "text"),
    [
        (
            "plain",
            "app_test",
            SECRET,
            ServerFailed,
            r'may not create roles.*\n.*\n.*ALTER ROLE "plain" CREATEROLE',
        ),
        (
            "maker",
            "app_test",
            "wrong",
            ServerFailed,
            r"password authentication failed.*\nPut the right user and",
        ),
        (
            "nobody",
            "app_test",
            SECRET,
            ServerFailed,
            r"authentication failed.*\nPut the right user and password",
        ),
        (
            "maker",
            "gone_test",
            SECRET,
            ServerFailed,
            r'does not exist\nCreate the database: createdb "gone_test"',
        ),
        (
            "maker",
            "prod",
            SECRET,
            NotATestDatabase,
            r"'prod' at maker@.* is not marked for tests(.|\n)*To fix this",
        ),
        ("maker", "latest", SECRET, ServerFailed, r"does not exist"),
    ],
)
def test_what_a_dsn_cannot_be_used_for_is_told_with_the_remedy_and_no_password(
    given: PostgresServer, user: str, database: str, secret: str, error: type[ServerError], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        by_dsn(dsn(given, user, database, secret), f"{user} {database} {secret}")
    assert SECRET not in str(caught.value)


def test_a_database_marked_by_a_table_is_accepted(given: PostgresServer) -> None:
    with by_dsn(dsn(given, "maker", "marked"), "marked") as server, server.new_database() as database:
        database.apply("SELECT 1")


def test_nobody_listening_is_told_with_the_remedy() -> None:
    with pytest.raises(
        ServerFailed, match=r"u@127\.0\.0\.1:1/x_test cannot be reached.*\nStart the server"
    ) as caught:
        by_dsn(f"postgresql://u:{SECRET}@127.0.0.1:1/x_test", "nobody listens")
    assert SECRET not in str(caught.value)


def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(ServerFailed, match=r"no answer within 1 s\n.*the time-out named 'connect'"):
            by_dsn(f"postgresql://u:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/x_test", "silent")
    assert time.monotonic() - began < 5


def test_a_pooler_in_between_is_told_with_the_remedy(given: PostgresServer) -> None:
    """A stand-in for PgBouncer, which as well tells its clients other process numbers than the server's."""
    import socketserver
    import threading

    class Pooler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((given._admin.host, given._admin.port)) as server:
                threading.Thread(target=self.forward, args=(self.request, server), daemon=True).start()
                self.forward(server, self.request)

        def forward(self, source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while told := source.recv(65536):
                    # `K`: the number of the server's process, and the key to cancel its queries.
                    target.sendall(re.sub(rb"(?s)(?<=K\0\0\0\x0c)....", b"\0\0\0\7", told))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Pooler) as pooler:
        pooler.daemon_threads = True
        threading.Thread(target=pooler.serve_forever, kwargs={"poll_interval": 0.01}).start()
        place = dsn(given, "maker").replace(f":{given._admin.port}/", f":{pooler.server_address[1]}/")
        try:
            with pytest.raises(
                ServerFailed, match=r"(?s)is a connection pooler.*give the server's own address"
            ):
                by_dsn(place, "pooler")
        finally:
            pooler.shutdown()


def test_too_few_connections_are_told_with_the_remedy(given: PostgresServer) -> None:
    admin = given._admin.at("app_test").url()
    execute(given._admin.url(), "ALTER ROLE maker CONNECTION LIMIT 1")
    with pytest.raises(ServerError) as caught, by_dsn(dsn(given, "maker"), "few") as server:
        server.new_database()
    assert "too many connections" in str(caught.value)
    assert admin not in str(caught.value)
