"""A ClickHouse client that several users share: what stays in it."""

from __future__ import annotations

from typing import Any

from pytest_ssot_isolation import Surface, operation
from pytest_ssot_isolation.errors import LeakFound
from pytest_ssot_isolation.model.report import Report


class Client:
    """As one of clickhouse-connect, as far as it is looked at."""

    def __init__(self) -> None:
        self.params: dict[str, str] = {"session_id": "of-the-process"}

    def query(self, sql: str, settings: dict[str, str] | None = None) -> int:
        return 1


Client.__module__ = "clickhouse_connect.driver.httpclient"


class Shared(Surface[Any]):
    """Puts the user's id into the settings of the client itself."""

    @operation
    async def report(self) -> int:
        given = self.world.query("SELECT 1")
        self.world.params["SQL_tenant"] = self.user.user_id
        return int(given)


class Sound(Surface[Any]):
    """Sends the user's id with the query alone."""

    @operation
    async def report(self) -> int:
        return int(self.world.query("SELECT 1", settings={"SQL_tenant": self.user.user_id}))


def checked(isolation: Any, surface: Any) -> Report:
    try:
        report: Report = isolation.check(
            surface, world=lambda: isolation.watch_pool(Client()), examples=4, users=2, ids="plain"
        )
        return report
    except LeakFound as found:
        return found.report


def test_a_setting_that_stays_in_a_shared_client_is_a_leak(harness: Any) -> None:
    report = checked(harness(), Shared)

    found = {finding.path: finding for finding in report.findings if finding.oracle == "residue"}
    assert list(found) == ["setting SQL_tenant"]
    assert (found["setting SQL_tenant"].victim, found["setting SQL_tenant"].offender) == ("alice", "bob")


def test_a_setting_that_goes_with_its_query_is_clean(harness: Any) -> None:
    assert checked(harness(), Sound).findings == ()
