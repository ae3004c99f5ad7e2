"""What a test gets from PostgreSQL: a database of its own, roles that hold, and a reset that leaves nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from pytest_ssot_isolation.errors import DatabaseUnusable, ServerFailed
from pytest_ssot_isolation.provisioning import postgres
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.postgres import structure
from pytest_ssot_isolation.provisioning.postgres.database import PostgresDatabase
from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

NOTES = """
    CREATE TABLE notes (id serial PRIMARY KEY, tenant text NOT NULL, body text);
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON notes USING (tenant = current_setting('app.tenant_id', true));
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    timeouts = DatabaseTimeoutConfig.for_environment("ci", lock=0.3)
    with postgres.lease(Wanted(engine="postgres", spec="embedded", timeouts=timeouts)) as server:
        yield server


@pytest.fixture
def notes(server: PostgresServer) -> Iterator[PostgresDatabase]:
    with server.new_database(NOTES) as database:
        yield database


def server_of(database: PostgresDatabase) -> PostgresServer:
    assert isinstance(database.server, PostgresServer)
    return database.server


def ask(dsn: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements one after another on a connection of their own; returns the last one's rows."""

    async def talk() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(dsn)
        try:
            rows = []
            for statement in statements:
                rows = await connection.fetch(statement)
            return [tuple(row) for row in rows]
        finally:
            await connection.close()

    return asyncio.run(talk())


def user(user_id: str, tenant_id: str | None = None) -> Any:
    return SimpleNamespace(user_id=user_id, tenant_id=tenant_id)


# The roles


def test_the_application_is_no_superuser_owns_nothing_and_cannot_bypass_row_security(
    notes: PostgresDatabase,
) -> None:
    powers = ask(
        notes.dsn,
        "SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication"
        " FROM pg_roles WHERE rolname = current_user",
    )
    owned = ask(
        notes.dsn,
        "SELECT relname FROM pg_class WHERE relowner = current_user::regrole"
        " UNION SELECT datname FROM pg_database WHERE datdba = current_user::regrole"
        " UNION SELECT rolname FROM pg_roles WHERE pg_has_role(oid, 'MEMBER') AND rolname <> current_user",
    )

    assert (powers, owned) == ([(False,) * 5], [])


def test_row_security_applies_to_the_application_and_not_to_the_owner(notes: PostgresDatabase) -> None:
    notes.apply("INSERT INTO notes (tenant, body) VALUES ('A', 'a'), ('B', 'b')")

    assert ask(notes.dsn, "SELECT body FROM notes") == []
    assert ask(notes.dsn, "SET app.tenant_id = 'A'", "SELECT body FROM notes") == [("a",)]
    assert len(ask(notes.owner_dsn, "SELECT body FROM notes")) == 2


def test_all_others_read_past_row_security_and_the_application_does_not(notes: PostgresDatabase) -> None:
    notes.apply("INSERT INTO notes (tenant, body) VALUES ('A', 'a'), ('B', 'b')")
    admin = server_of(notes)._admin.at(notes.name)
    ask(admin.url(), "CREATE ROLE passes LOGIN BYPASSRLS PASSWORD 'x'", "GRANT SELECT ON notes TO passes")
    try:
        seen = {
            name: len(ask(dsn, "SET app.tenant_id = 'A'", "SELECT * FROM notes"))
            for name, dsn in (
                ("superuser", admin.url()),
                ("owner", notes.owner_dsn),
                ("BYPASSRLS", admin.as_role("passes", "x").url()),
                ("application", notes.dsn),
                ("a user of the application", notes.dsn_for(user("alice", "A"))),
            )
        }
        for role in ("postgres", "passes", notes._open.owner.user):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                ask(notes.dsn, f"SET ROLE {role}")
    finally:
        ask(admin.url(), "DROP OWNED BY passes", "DROP ROLE passes")

    passing = {"superuser": 2, "owner": 2, "BYPASSRLS": 2}
    assert seen == {**passing, "application": 1, "a user of the application": 1}


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own ON notes",
        "TRUNCATE notes",
        "CREATE TABLE mine (id int)",
        "ALTER ROLE CURRENT_USER BYPASSRLS",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "SET session_replication_role = replica",
        "SET ROLE postgres",
    ],
)
def test_the_application_cannot_lift_what_holds_it(notes: PostgresDatabase, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        ask(notes.dsn, statement)


def test_the_application_may_use_all_that_the_owner_makes_also_later(notes: PostgresDatabase) -> None:
    notes.apply(
        "CREATE SCHEMA more; CREATE TABLE more.things (id serial, n int);"
        "CREATE FUNCTION more.three() RETURNS int LANGUAGE sql AS 'SELECT 3'"
    )

    used = ask(
        notes.dsn,
        "INSERT INTO more.things (n) VALUES (more.three())",
        "UPDATE more.things SET n = n + 1",
        "SELECT id, n FROM more.things",
    )
    assert used == [(1, 4)]


def test_a_user_of_its_own_acts_under_row_security_as_that_user(notes: PostgresDatabase) -> None:
    alice, bob = (notes.dsn_for(user(name, tenant)) for name, tenant in (("alice", "A"), ("bob", "B")))
    ask(alice, "INSERT INTO notes (tenant, body) VALUES ('A', 'a')")

    assert ask(alice, "SELECT body, current_setting('app.user_id') FROM notes") == [("a", "alice")]
    assert ask(bob, "SELECT body FROM notes") == []
    assert ask(bob, "SELECT current_setting('app.tenant_id')") == [("B",)]
    assert notes.dsn_for(user("alice", "A")) == alice


@pytest.mark.parametrize("name", ["o'hara", 'a"b', "a\\b", "a b; DROP TABLE notes", "日本", "x" * 255, "$1"])
def test_any_id_reaches_the_database_as_it_is(notes: PostgresDatabase, name: str) -> None:
    dsn = notes.dsn_for(user(name, name))

    seen = "SELECT current_setting('app.user_id'), current_setting('app.tenant_id')"
    assert ask(dsn, seen) == [(name, name)]


def test_a_user_without_a_tenant_has_none_set(notes: PostgresDatabase) -> None:
    assert ask(notes.dsn_for(user("alice")), "SELECT current_setting('app.tenant_id', true)") == [(None,)]


def test_the_settings_that_name_the_user_can_be_chosen(notes: PostgresDatabase) -> None:
    dsn = notes.dsn_for(user("alice", "A"), user_setting="my.user", tenant_setting="my.tenant")

    assert ask(dsn, "SELECT current_setting('my.user'), current_setting('my.tenant')") == [("alice", "A")]


def test_the_roles_of_users_go_with_the_database(server: PostgresServer) -> None:
    with server.new_database(NOTES) as first:
        dsn = first.dsn_for(user("alice", "A"))
        name = ask(dsn, "SELECT current_user")[0][0]
    with server.new_database(NOTES) as second:
        assert ask(second.dsn, f"SELECT FROM pg_roles WHERE rolname = '{name}'") == []
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(dsn, "SELECT 1")


# One database after another


def test_a_database_given_back_is_empty_for_the_next_test(server: PostgresServer) -> None:
    with server.new_database(NOTES) as first:
        first.apply("INSERT INTO notes (tenant, body) VALUES ('A', 'a'), ('A', 'b')")
        name = first.name
    with server.new_database(NOTES) as second:
        assert second.name == name, "it should have been used again"
        assert ask(second.owner_dsn, "SELECT count(*) FROM notes") == [(0,)]
        inserted = ask(second.owner_dsn, "INSERT INTO notes (tenant) VALUES ('A') RETURNING id")
        assert inserted == [(1,)], "the sequence should have begun anew"


CHANGES = [
    "ALTER TABLE notes ADD COLUMN more text",
    "ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
    "DROP POLICY own ON notes",
    "ALTER POLICY own ON notes USING (true)",
    "CREATE TABLE more (id int)",
    "DROP TABLE notes",
    "CREATE INDEX ON notes (body)",
    "CREATE VIEW v AS SELECT 1",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA more",
    "CREATE SEQUENCE more",
    "ALTER SEQUENCE notes_id_seq INCREMENT 2",
    "ALTER TABLE notes ALTER body SET DEFAULT 'x'",
    "ALTER TABLE notes ADD CHECK (body <> '')",
    "CREATE TYPE mood AS ENUM ('good')",
    "REVOKE SELECT ON notes FROM {app}",
    "GRANT TRUNCATE ON notes TO {app}",
    "GRANT UPDATE (body) ON notes TO {app}",
    "COMMENT ON TABLE notes IS 'x'",
    "ALTER DATABASE {name} SET work_mem = '1MB'",
    "REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
    "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_structure_is_never_handed_on(server: PostgresServer, change: str) -> None:
    with server.new_database(NOTES) as unchanged:
        name = unchanged.name  # From now on only what wrote to the catalogue is looked for.
    with server.new_database(NOTES) as first:
        assert first.name == name
        try:
            first.apply(change.format(app=first.user, name=first.name))
        except DatabaseUnusable as error:
            if "is not available" in str(error):
                pytest.skip("this PostgreSQL has no such extension")
            raise
    with server.new_database(NOTES) as second:
        assert second.name != name
        second.apply("INSERT INTO notes (tenant, body) VALUES ('A', 'a')")
        assert ask(second.dsn, "SELECT * FROM notes") == []


def test_a_structure_changed_by_a_session_that_had_to_be_ended_is_never_handed_on(
    server: PostgresServer,
) -> None:
    with server.new_database(NOTES) as unchanged:
        name = unchanged.name
    loop = asyncio.new_event_loop()
    first = server.new_database(NOTES)
    assert first.name == name
    left = loop.run_until_complete(asyncpg.connect(first.owner_dsn))
    # Not yet in the server's statistics: a session that lives tells them only now and then.
    loop.run_until_complete(left.execute("ALTER TABLE notes ADD COLUMN more text"))
    first.close()
    assert len(first.leftovers) == 1
    loop.run_until_complete(left.close())
    loop.close()

    with server.new_database(NOTES) as second:
        assert second.name != name


def test_a_database_that_nobody_changed_is_not_compared_in_full(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.new_database(NOTES) as unchanged:
        name = unchanged.name
    monkeypatch.setattr(structure, "FINGERPRINT", "SELECT 'another'")
    for _ in range(3):
        with server.new_database(NOTES) as again:
            again.apply("INSERT INTO notes (tenant, body) VALUES ('A', 'a')")
            assert again.name == name
    with server.new_database(NOTES) as changed:
        changed.apply("CREATE TABLE more ()")
    with server.new_database(NOTES) as next_one:
        assert next_one.name != name


def test_a_server_whose_statistics_come_late_has_every_structure_compared_in_full(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.new_database(NOTES) as unchanged:
        name = unchanged.name
    monkeypatch.setattr(structure, "COUNTS_AT_ONCE", 99)
    monkeypatch.setattr(structure, "FINGERPRINT", "SELECT 'another'")
    with server.new_database(NOTES) as compared:
        assert compared.name == name
    with server.new_database(NOTES) as next_one:
        assert next_one.name != name


@pytest.mark.parametrize(
    "no_change",
    ["TRUNCATE notes", "ANALYZE notes", "VACUUM FULL notes", "REINDEX TABLE notes", "CREATE TEMP TABLE t ()"],
)
def test_what_changes_no_structure_costs_no_copy(server: PostgresServer, no_change: str) -> None:
    with server.new_database(NOTES) as first:
        name = first.name
        first.apply(no_change)
    with server.new_database(NOTES) as second:
        assert second.name == name


def test_a_setting_that_the_application_gave_its_own_role_is_gone(server: PostgresServer) -> None:
    with server.new_database(NOTES) as first:
        ask(first.dsn, "ALTER ROLE CURRENT_USER SET statement_timeout = '77s'")
    with server.new_database(NOTES) as second:
        assert ask(second.dsn, "SHOW statement_timeout") == [("0",)]


def test_two_databases_at_a_time_are_two(server: PostgresServer) -> None:
    with server.new_database(NOTES) as first, server.new_database(NOTES) as second:
        first.apply("INSERT INTO notes (tenant) VALUES ('A')")

        assert first.name != second.name
        assert ask(second.owner_dsn, "SELECT count(*) FROM notes") == [(0,)]


def test_a_session_left_open_is_ended_and_named(server: PostgresServer) -> None:
    async def forget() -> asyncpg.Connection:
        connection = await asyncpg.connect(database.dsn, server_settings={"application_name": "forgetful"})
        await connection.execute("BEGIN; SELECT 'PASSWORD ''planted'''")
        return connection

    with asyncio.Runner() as runner:
        database = server.new_database(NOTES)
        connection = runner.run(forget())
        database.close()
        (leftover,) = database.leftovers
        connection.terminate()

    assert (leftover.application, leftover.state) == ("forgetful", "idle in transaction")
    assert "planted" not in str(leftover)
    with server.new_database(NOTES) as after:
        after.apply("DROP TABLE notes")


def test_a_session_closed_in_good_order_is_no_leftover(server: PostgresServer) -> None:
    database = server.new_database(NOTES)
    ask(database.dsn, "SELECT 1")
    database.close()

    assert database.leftovers == ()


def test_a_database_given_back_cannot_be_used(server: PostgresServer) -> None:
    database = server.new_database(NOTES)
    database.close()
    database.close()

    with pytest.raises(DatabaseUnusable, match="given back when its test ended"):
        _ = database.dsn


# Reset


def test_a_reset_empties_whatever_stands_in_the_way(server: PostgresServer) -> None:
    schema = """
        CREATE TABLE a (id serial PRIMARY KEY, b int);
        CREATE TABLE b (id serial PRIMARY KEY, a int REFERENCES a DEFERRABLE);
        ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b;
        CREATE TABLE parts (id int, at int) PARTITION BY RANGE (at);
        CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (10);
        CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
        CREATE TABLE "Odd ""name" (id int GENERATED ALWAYS AS IDENTITY);
        CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
        CREATE TRIGGER no BEFORE DELETE ON parent FOR EACH ROW EXECUTE FUNCTION no();
        CREATE MATERIALIZED VIEW many AS SELECT count(*) AS n FROM parent;
    """
    with server.new_database(schema) as database:
        database.apply(
            "INSERT INTO a VALUES (DEFAULT, NULL); INSERT INTO b VALUES (DEFAULT, 1); UPDATE a SET b = 1;"
            "INSERT INTO parts VALUES (1, 1); INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1);"
            'INSERT INTO "Odd ""name" DEFAULT VALUES; REFRESH MATERIALIZED VIEW many; SELECT lo_create(0)'
        )
        database.reset()

        counts = ask(
            database.owner_dsn,
            'SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), (SELECT count(*) FROM "Odd ""name"),'
            " (SELECT count(*) FROM parts), (SELECT count(*) FROM parent), (SELECT n FROM many),"
            " (SELECT count(*) FROM pg_largeobject_metadata)",
        )
        assert counts == [(0,) * 7]
        assert ask(database.owner_dsn, 'INSERT INTO "Odd ""name" DEFAULT VALUES RETURNING id') == [(1,)]


def test_rows_that_the_schema_put_in_are_there_again(server: PostgresServer) -> None:
    schema = """
        CREATE TABLE kinds (id serial PRIMARY KEY, name text, twice int GENERATED ALWAYS AS (id * 2) STORED);
        INSERT INTO kinds (name) VALUES ('one'), ('two');
        CREATE TABLE things (kind int REFERENCES kinds, tags text[], data jsonb);
    """
    changes = [
        "DELETE FROM kinds",
        "UPDATE kinds SET name = 'x'",
        "INSERT INTO kinds (name) VALUES ('three')",
    ]
    for change in changes:
        with server.new_database(schema) as database:
            database.apply(change)
            database.reset()
            rows = ask(database.owner_dsn, "SELECT id, name, twice FROM kinds ORDER BY id")
            assert rows == [(1, "one", 2), (2, "two", 4)]
            assert ask(database.owner_dsn, "INSERT INTO kinds (name) VALUES ('n') RETURNING id") == [(3,)]


def test_a_reset_keeps_a_structure_changed_by_the_test_and_empties_it_too(notes: PostgresDatabase) -> None:
    notes.apply(
        "CREATE TABLE more (id serial); INSERT INTO more DEFAULT VALUES; INSERT INTO notes (tenant) VALUES ('A')"
    )
    notes.reset()

    assert ask(notes.owner_dsn, "SELECT (SELECT count(*) FROM more), (SELECT count(*) FROM notes)") == [
        (0, 0)
    ]
    assert ask(notes.owner_dsn, "INSERT INTO more DEFAULT VALUES RETURNING id") == [(1,)]


def test_a_reset_ends_a_session_that_forgot_its_transaction(notes: PostgresDatabase) -> None:
    async def story() -> None:
        notes.apply("INSERT INTO notes (tenant) VALUES ('A')")
        forgetful = await asyncpg.connect(notes.owner_dsn)
        await forgetful.execute("BEGIN; UPDATE notes SET body = 'mine'")
        await notes.reset_async()
        with pytest.raises((asyncpg.AdminShutdownError, asyncpg.InterfaceError)):
            await forgetful.fetch("SELECT 1")
        forgetful.terminate()

    asyncio.run(story())
    assert ask(notes.owner_dsn, "SELECT count(*) FROM notes") == [(0,)]


def test_a_reset_leaves_quiet_connections_open(notes: PostgresDatabase) -> None:
    async def story() -> object:
        connection = await asyncpg.connect(notes.dsn)
        await connection.fetch("SELECT * FROM notes")
        notes.reset()
        try:
            return await connection.fetchval("SELECT 7")
        finally:
            await connection.close()

    assert asyncio.run(story()) == 7


def test_plain_methods_work_inside_a_running_loop(server: PostgresServer) -> None:
    async def story() -> int:
        with server.new_database(NOTES) as database:
            database.apply("INSERT INTO notes (tenant) VALUES ('A')")
            await database.apply_async("INSERT INTO notes (tenant) VALUES ('A')")
            database.dsn_for(user("alice", "A"))
            connection = await asyncpg.connect(database.owner_dsn)
            count: int = await connection.fetchval("SELECT count(*) FROM notes")
            await connection.close()
            return count

    assert asyncio.run(story()) == 2


# Schemas


def test_a_schema_is_a_file_a_list_of_files_or_a_callable(server: PostgresServer, tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text("CREATE TABLE a (id int);")
    (tmp_path / "2.sql").write_text("CREATE TABLE b AS TABLE a;")

    async def migrate(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE a (id int); CREATE TABLE b (id int)")
        await connection.close()

    for schema in ([tmp_path / "1.sql", tmp_path / "2.sql"], migrate, lambda dsn: asyncio.run(migrate(dsn))):
        with server.new_database(schema) as database:
            assert ask(database.dsn, "TABLE b") == []
    with server.new_database(tmp_path / "1.sql") as database:
        assert ask(database.dsn, "TABLE a") == []


def test_a_schema_is_loaded_once_however_many_tests_ask(server: PostgresServer) -> None:
    loads: list[str] = []

    def migrate(dsn: str) -> None:
        loads.append(dsn)

    for _ in range(3):
        with server.new_database(migrate) as database:
            database.apply("CREATE TABLE changed (id int)")
    assert len(loads) == 1


def test_a_mistake_in_a_script_is_told_with_its_file_and_line(server: PostgresServer, tmp_path: Path) -> None:
    script = tmp_path / "broken.sql"
    script.write_text("CREATE TABLE a (id int);\nSELECT nope\nFROM a;\n")

    with pytest.raises(DatabaseUnusable) as caught:
        server.new_database(script)
    assert f"The script {script} failed in the database" in str(caught.value)
    assert 'line 2:\n  SELECT nope\n  column "nope" does not exist\n' in str(caught.value)


def test_a_script_that_is_not_there_is_told_with_what_to_give(server: PostgresServer) -> None:
    with pytest.raises(
        DatabaseUnusable, match=r"(?s)nowhere\.sql cannot be read.*Give a path from .*, an absolute one"
    ):
        server.new_database(Path("nowhere.sql"))


def test_a_migration_that_fails_is_told_with_its_name_and_cause(server: PostgresServer) -> None:
    def migrate(dsn: str) -> None:
        raise LookupError("no such revision")

    with pytest.raises(DatabaseUnusable, match="migrate raised LookupError") as caught:
        server.new_database(migrate)
    assert isinstance(caught.value.__cause__, LookupError)
    with server.new_database(None) as another:
        assert ask(another.dsn, "SELECT 1") == [(1,)]


def test_a_script_without_end_is_ended_in_time(
    notes: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = DatabaseTimeoutConfig.for_environment("ci", statement=0.2)
    monkeypatch.setattr(notes._open, "_timeouts", short)

    with pytest.raises(DatabaseUnusable, match=r"did not end within 0\.2 s.*\n.*time-out named 'statement'"):
        notes.apply("SELECT pg_sleep(60)")


# The rest of the face


def test_the_address_is_told_in_parts_and_as_urls(notes: PostgresDatabase) -> None:
    assert notes.host == "127.0.0.1"
    assert (
        notes.dsn == f"postgresql://{notes.user}:{notes.password}@{notes.host}:{notes.port}/{notes.database}"
    )
    assert notes.url() == notes.dsn.replace("postgresql://", "postgresql+asyncpg://")
    assert notes.url("psycopg") == notes.dsn.replace("postgresql://", "postgresql+psycopg://")
    assert notes.name == notes.database
    assert (notes.server.way, notes.server.engine) == ("embedded", "postgres")
    assert notes.server.version in ask(notes.dsn, "SHOW server_version")[0][0]


def test_nothing_shows_a_password(notes: PostgresDatabase) -> None:
    shown = f"{notes!r} {notes} {notes.server!r} {notes._open.app!r} {notes._open._roles!r} {server_of(notes)._share!r}"

    assert notes.password not in shown
    assert server_of(notes)._admin.password not in shown


def test_sessions_that_wait_for_a_lock_are_told_from_another_thread(notes: PostgresDatabase) -> None:
    notes.apply("INSERT INTO notes (tenant) VALUES ('A')")
    seen: list[frozenset[int]] = []

    async def story() -> int:
        holder, waiter = [await asyncpg.connect(notes.owner_dsn) for _ in range(2)]
        try:
            await holder.execute("BEGIN; UPDATE notes SET body = 'h'")
            blocked = asyncio.ensure_future(waiter.execute("UPDATE notes SET body = 'w'"))
            while not any(seen):
                await asyncio.sleep(0.01)
                watcher = threading.Thread(target=lambda: seen.append(notes.blocked_pids()))
                watcher.start()
                await asyncio.to_thread(watcher.join)
            await holder.execute("COMMIT")
            await blocked
            pid: int = waiter.get_server_pid()
            return pid
        finally:
            await holder.close()
            await waiter.close()

    waiting = asyncio.run(story())
    assert seen[-1] == {waiting}
    assert notes.blocked_pids() == frozenset()


def test_a_server_given_back_hands_out_no_database() -> None:
    server = postgres.lease(Wanted(engine="postgres", spec="embedded"))
    server.close()
    server.close()

    with pytest.raises(ServerFailed, match="given back; ask for the fixture again"):
        server.new_database()
