"""What is said to a server with users and row policies is ClickHouse's own language.

No such server is at hand everywhere, but its parser is in chDB: each statement that the way by DSN would send is
recorded and read by it. What a server makes of them is tested where one is, in test_clickhouse_database.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_ssot_isolation.errors import DatabaseUnusable, ProtectionRefused
from pytest_ssot_isolation.provisioning import clickhouse
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.clickhouse import ClickhouseServer
from pytest_ssot_isolation.provisioning.clickhouse.address import Address
from pytest_ssot_isolation.provisioning.clickhouse.capabilities import REMEDIES
from pytest_ssot_isolation.provisioning.clickhouse.dsn import HttpBackend
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

pytest.importorskip(
    "chdb", reason="chdb-core is not installed: pip install 'pytest-ssot-isolation[embedded]'"
)


class Parser:
    """chDB, asked whether it can read a statement."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, statement: str) -> str:
        (row,) = self._client.query("SELECT formatQuerySingleLine(%(s)s)", {"s": statement}).result_rows
        return str(row[0])


class Recorder(HttpBackend):
    """A server with everything, that only writes down what it is told."""

    def __init__(self) -> None:
        address = Address("server.example", 8123, "owner", "app_test", "open-sesame")
        super().__init__(address, "dsn", "26.3.1.1", DatabaseTimeoutConfig())
        self.said: list[str] = []
        self.opened: list[Address] = []

    def execute(self, statement: str, database: str | None = None) -> None:
        self.said.append(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        self.said.append(query)
        return (
            [("ssot_tenant_id", "events")] if "row_policies" in query else [(1,)] if "cache" in query else []
        )

    def _open(self, address: Address, options: dict[str, Any]) -> Any:
        self.opened.append(address)
        return None


class User:
    user_id = "alice"
    tenant_id = "it's `A` \\ \u00e4"


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    with (
        clickhouse.lease(Wanted(engine="clickhouse", spec="embedded")) as server,
        server.new_database() as database,
    ):
        yield Parser(database.connect())


def test_every_statement_of_a_tests_life_can_be_read(parser: Parser) -> None:
    recorder = Recorder()
    server = ClickhouseServer(recorder)
    assert server.capabilities >= REMEDIES.keys() - {"sessions", "async"}
    database = server.new_database("CREATE TABLE t (x Int8) ENGINE = Memory", protect={"events": "tenant_id"})
    database.protect("odd `name", "odd \\ column")
    database.reset()
    recorder.connect_as(database.name, User.tenant_id)
    database.close()
    recorder.sweep()

    read = [parser.read(statement) for statement in recorder.said]

    kinds = " ".join(read)
    for kind in ("CREATE USER", "DROP USER", "GRANT SELECT, INSERT", "CREATE ROW POLICY", "DROP ROW POLICY"):
        assert kind in kinds
    assert any("SETTINGS log_comment = " in each and "CONST" in each for each in read)
    assert sum(" TO ALL" in each for each in read) >= 3


def test_what_is_said_is_what_the_documentation_asks_for() -> None:
    """ClickHouse's pages on CREATE USER, CREATE ROW POLICY and constraints on settings, in statements."""
    recorder = Recorder()
    database = ClickhouseServer(recorder).new_database(protect={"events": "tenant_id"})
    recorder.connect_as(database.name, "A")
    (user,) = recorder.opened
    where = f"`{database.name}`.`events`"

    # For every user, or whoever is named in no policy would see nothing or all, as the server is set up.
    policy = next(said for said in recorder.said if said.startswith("CREATE ROW POLICY IF NOT EXISTS `ssot_"))
    assert f" ON {where} USING " in policy
    assert policy.endswith(" TO ALL")
    assert "AND getSetting('log_comment') != ''" in policy, "no tenant, no rows"
    made = next(said for said in recorder.said if said.startswith(f"CREATE USER `{user.user}`"))
    # CONST, or the user gives itself another tenant by SET or with a query.
    assert made.endswith("SETTINGS log_comment = 'A' CONST")
    assert "IDENTIFIED WITH sha256_password BY " in made
    # Nothing beyond the one database, and neither policies, users nor tables.
    (grant,) = (said for said in recorder.said if said.startswith("GRANT"))
    assert grant == (
        f"GRANT SELECT, INSERT, ALTER UPDATE, ALTER DELETE ON `{database.name}`.* TO `{user.user}`"
    )
    # As ClickHouse Cloud demands.
    kinds = (str.islower, str.isupper, str.isdigit, lambda sign: not sign.isalnum())
    assert all(any(map(kind, user.password[-4:])) for kind in kinds)
    assert len(user.password) >= 12

    database.close()
    assert f"DROP ROW POLICY IF EXISTS `ssot_tenant_id` ON {where}" in recorder.said
    assert recorder.said.index(f"DROP USER IF EXISTS `{user.user}`") < len(recorder.said) - 1
    assert recorder.said[-1] == f"DROP DATABASE IF EXISTS `{database.name}`"


SECOND = r"'events'.*'owner'.*'tenant_id'.*OR(.|\n)*one column"


def test_a_second_column_is_refused_since_policies_are_joined_by_or() -> None:
    server = ClickhouseServer(Recorder())
    with pytest.raises(ProtectionRefused, match=SECOND):
        server.new_database(protect=[("events", "tenant_id"), ("events", "owner")])
    database = server.new_database(protect={"events": "tenant_id"})
    with pytest.raises(ProtectionRefused, match=SECOND):
        database.protect("events", "owner")


def test_a_tenants_login_is_made_once_and_dropped_with_the_database() -> None:
    recorder = Recorder()
    database = ClickhouseServer(recorder).new_database()
    for _ in range(2):
        recorder.connect_as(database.name, "A")
    recorder.connect_as(database.name, "B")
    database.close()

    made = [said.split("`")[1] for said in recorder.said if said.startswith("CREATE USER")]
    dropped = [said.split("`")[1] for said in recorder.said if said.startswith("DROP USER")]
    assert len(made) == 2
    assert made == dropped
    assert [address.user for address in recorder.opened] == [made[0], made[0], made[1]]


def test_a_login_that_is_refused_is_told_and_becomes_a_setting_only_where_there_are_no_users() -> None:
    class Refusing(Recorder):
        refuses = "SETTINGS log_comment"

        def execute(self, statement: str, database: str | None = None) -> None:
            super().execute(statement, database)
            if statement.startswith("CREATE USER") and self.refuses in statement:
                raise DatabaseUnusable("Setting log_comment should not be changed")

    recorder = Refusing()
    database = ClickhouseServer(recorder).new_database()
    with pytest.raises(DatabaseUnusable, match="should not be changed"):
        recorder.connect_as(database.name, "A")
    assert not recorder.opened

    recorder.refuses = ""  # And so each login whatsoever.
    recorder.connect_as(database.name, "A")
    assert [address.user for address in recorder.opened] == ["owner"]


def test_databases_of_dead_runs_are_swept_after_a_day_and_no_others() -> None:
    class Old(Recorder):
        def rows(self, query: str) -> list[tuple[Any, ...]]:
            if "FROM system.databases" not in query:
                return []
            recent = next(name for name in self.said if name.startswith("CREATE DATABASE")).split("`")[1]
            return [
                (name,)
                for name in ("app_test", "app_test_ssot_5f000000_0123abcd_7", "app_test_ssot_x", recent)
            ]

    recorder = Old()
    recorder.create(frozenset())
    recorder.sweep()

    dropped = [said for said in recorder.said if said.startswith("DROP DATABASE")]
    assert dropped == ["DROP DATABASE IF EXISTS `app_test_ssot_5f000000_0123abcd_7`"]
