"""A ClickHouse server over HTTP: given by its DSN here, and what the container way uses as well."""

from __future__ import annotations

import contextlib
import itertools
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from pytest_ssot_isolation.errors import DatabaseUnusable, ServerFailed
from pytest_ssot_isolation.provisioning.base import Wanted
from pytest_ssot_isolation.provisioning.clickhouse.address import Address
from pytest_ssot_isolation.provisioning.clickhouse.capabilities import is_there
from pytest_ssot_isolation.provisioning.clickhouse.database import ClickhouseServer
from pytest_ssot_isolation.provisioning.clickhouse.policies import Protections
from pytest_ssot_isolation.provisioning.clickhouse.sql import belongs_to_tenant, identifier, literal
from pytest_ssot_isolation.provisioning.marking import MARK, is_named_for_tests, refusal
from pytest_ssot_isolation.provisioning.timeouts import DatabaseTimeoutConfig

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

OLDEST: Final = (24, 3)
"""The oldest release line that is supported; older ones get no fixes any more."""

_ABANDONED: Final = 24 * 3600  # Seconds after which a database is taken for one that a killed run left.

_OF_EACH_KIND: Final = "-aA1"
"""ClickHouse Cloud takes no password without a sign, both cases and a digit; chance alone may leave one out."""


class DsnProvider:
    """The way to a server that somebody else runs."""

    way: Final = "dsn"

    def why_not(self, wanted: Wanted) -> str | None:
        """Return that no DSN was given, or None."""
        return None if wanted.dsn else "no DSN was given (--ssot-clickhouse=DSN)"

    def start(self, wanted: Wanted) -> ClickhouseServer:
        """Reach the server, and refuse a database that is not marked for tests."""
        address = Address.parse(wanted.dsn or "")
        version = checked_version(address, wanted)
        if not is_named_for_tests(address.database):
            marked = f"EXISTS TABLE {identifier(address.database)}.{identifier(MARK)}"
            try:
                answer = address.ask(marked, wanted.timeouts.connect)
            except ServerFailed:
                answer = "0"  # There is no such database, so nobody marked it.
            if answer != "1":
                raise refusal("clickhouse", str(address), address.database)
        backend = HttpBackend(address, self.way, version, wanted.timeouts)
        backend.sweep()
        return ClickhouseServer(backend)


def checked_version(address: Address, wanted: Wanted) -> str:
    """Return the server's version, asked for before the driver meets a server it cannot talk to.

    Raises:
        ServerFailed: The server cannot be reached, is too old, or is not of the version asked for.
    """
    version = address.ask("SELECT version()", wanted.timeouts.connect)
    if not re.match(r"\d+\.\d+", version):
        raise ServerFailed(
            f"What is at {address} answers, but not as ClickHouse does.\n"
            "Correct host and port in the DSN; the port is that of ClickHouse's HTTP interface."
        )
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise ServerFailed(
            f"ClickHouse at {address} is version {version}; {'.'.join(map(str, OLDEST))} is the oldest "
            "that is supported.\nUse a newer server, or another way: --ssot-clickhouse=container or embedded."
        )
    if wanted.version and not f"{version}.".startswith(f"{wanted.version}."):
        raise ServerFailed(
            f"ClickHouse at {address} is version {version}, and {wanted.version} was asked for.\n"
            "Ask for the version that is there, or use another server."
        )
    return version


class HttpBackend:
    """Databases in a server over HTTP.

    Attributes:
        way: ``dsn`` or ``container``.
        version: The server's version.
    """

    def __init__(
        self,
        address: Address,
        way: str,
        version: str,
        timeouts: DatabaseTimeoutConfig,
        on_release: Callable[[], None] = lambda: None,
    ) -> None:
        self.way = way
        self.version = version
        self._address = address
        self._timeouts = timeouts
        self._on_release = on_release
        self._stem = f"{address.database if is_named_for_tests(address.database) else 'ssot_test'}_ssot"
        self._numbers = itertools.count()
        self._mine = secrets.token_hex(4)
        self._users: dict[tuple[str, str], Address] = {}
        self._lock = threading.RLock()
        self._admin: Client | None = None

    def dsn(self, database: str) -> str:
        """Return a DSN for ``clickhouse_connect.get_client``."""
        return self._address.at(database).dsn

    def connect(self, database: str, **options: Any) -> Client:
        """Open a client; options are those of ``clickhouse_connect.get_client``."""
        return self._open(self._address.at(database), options)

    def connect_as(self, database: str, tenant: str, **options: Any) -> Client:
        """Open a client for one tenant: a login of its own where the server has users, else by a setting."""
        user = self._user_of(database, tenant)
        if user is not None:
            return self._open(user, options)
        settings = {**(options.pop("settings", None) or {}), "log_comment": tenant}
        return self.connect(database, settings=settings, **options)

    def execute(self, statement: str, database: str | None = None) -> None:
        """Run one statement as the owner, in a database where one is given."""
        with self._lock:
            client = self._as_owner(database)
            with self._told():
                client.raw_query(statement)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query as the owner."""
        with self._lock:
            client = self._as_owner(None)
            with self._told():
                return list(map(tuple, client.query(query).result_rows))

    def create(self, protections: Protections) -> str:
        """Create an empty database with these protections and return its name."""
        name = f"{self._stem}_{int(time.time()):08x}_{self._mine}_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {identifier(name)}")
        return self.protect(name, protections)

    def drop(self, name: str) -> None:
        """Drop a database with its users and row policies."""
        for (database, tenant), user in list(self._users.items()):
            if database == name:
                self.execute(f"DROP USER IF EXISTS {identifier(user.user)}")
                del self._users[database, tenant]
        with contextlib.suppress(
            DatabaseUnusable
        ):  # Without access management there are no policies to drop.
            for policy, table in self.rows(
                f"SELECT short_name, table FROM system.row_policies WHERE database = {literal(name)}"
            ):
                where = f"{identifier(name)}.{identifier(table)}"
                self.execute(f"DROP ROW POLICY IF EXISTS {identifier(policy)} ON {where}")
        self.execute(f"DROP DATABASE IF EXISTS {identifier(name)}")

    def protect(self, name: str, protections: Protections) -> str:
        """Put protections in force for every user, the owner included."""
        for table, column in sorted(protections):
            self.execute(
                f"CREATE ROW POLICY IF NOT EXISTS {identifier(f'ssot_{column}')} "
                f"ON {identifier(name)}.{identifier(table)} USING {belongs_to_tenant(column)} TO ALL"
            )
        return name

    def sweep(self) -> None:
        """Drop the databases that a killed run left behind more than a day ago."""
        ours = re.compile(re.escape(self._stem) + r"_(?P<at>[0-9a-f]{8})_[0-9a-f]{8}_\d+")
        for (name,) in self.rows("SELECT name FROM system.databases"):
            if (found := ours.fullmatch(name)) and time.time() - int(found["at"], 16) > _ABANDONED:
                self.drop(name)

    def release(self) -> None:
        """Close the owner's client and let go of the server."""
        with self._lock:
            if self._admin is not None:
                self._admin.close()
                self._admin = None
        self._on_release()

    def _as_owner(self, database: str | None) -> Client:
        if self._admin is None:
            self._admin = self._open(self._address.at("default"), {"autogenerate_session_id": False})
        self._admin.database = database or "default"
        return self._admin

    def _user_of(self, database: str, tenant: str) -> Address | None:
        """Return the login of one tenant in one database, made at the first call; None without users."""
        with self._lock:
            if (known := self._users.get((database, tenant))) is not None:
                return known
            user = self._address.at(database).as_user(
                f"ssot_{secrets.token_hex(8)}", secrets.token_urlsafe(24) + _OF_EACH_KIND
            )
            who = identifier(user.user)
            try:
                # CONST: a tenant held in a setting is only as safe as those who may change the setting.
                self.execute(
                    f"CREATE USER {who} IDENTIFIED WITH sha256_password BY {literal(user.password)} "
                    f"SETTINGS log_comment = {literal(tenant)} CONST"
                )
            except DatabaseUnusable:
                if is_there("users", self):
                    raise  # Not for want of users: a tenant in a setting would be weaker, and nobody would know.
                return None
            self._users[database, tenant] = user
            self.execute(
                f"GRANT SELECT, INSERT, ALTER UPDATE, ALTER DELETE ON {identifier(database)}.* TO {who}"
            )
            return user

    def _open(self, address: Address, options: dict[str, Any]) -> Client:
        import clickhouse_connect

        options.setdefault("connect_timeout", max(1, round(self._timeouts.connect)))
        try:
            return clickhouse_connect.get_client(dsn=address.dsn, **options)
        except Exception as error:
            # Not chained: a traceback shows the driver's arguments, and with them the password.
            raise DatabaseUnusable(
                f"No client can be opened at {address}: {address.hide(str(error))}"
            ) from None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise DatabaseUnusable(
                f"ClickHouse at {self._address}: {self._address.hide(str(error))}"
            ) from None
