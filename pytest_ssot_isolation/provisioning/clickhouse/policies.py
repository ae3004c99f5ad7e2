"""Row policies of chDB: read from a users file when it opens, so written for names that are kept ready."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from pytest_ssot_isolation.errors import ProtectionRefused
from pytest_ssot_isolation.provisioning.clickhouse.sql import belongs_to_tenant

Protections = frozenset[tuple[str, str]]
"""Pairs of table and tenant column: what is protected in one database."""


def checked(protections: Protections) -> Protections:
    """Return these protections.

    Raises:
        ProtectionRefused: A table is protected by two columns, which would protect it less than one does.
    """
    columns: dict[str, list[str]] = {}
    for table, column in sorted(protections):
        columns.setdefault(table, []).append(column)
    for table, those in columns.items():
        if len(those) > 1:
            raise ProtectionRefused.by_two_columns(table, those)
    return protections


SLOTS_AT_FIRST: Final = 16
"""Databases with the same protections that can be open at once before the engine must open again."""


@dataclass(slots=True)
class Pool:
    """Names of databases that all have the same protections.

    Attributes:
        number: Tells the pool apart in the names.
        protections: In force in each of its databases.
        size: Names in the users file; without protections the pool has no end and needs none.
        in_use: Names given out now.
    """

    number: int
    protections: Protections
    size: int = SLOTS_AT_FIRST
    in_use: set[str] = field(default_factory=set)

    def names(self) -> list[str]:
        """Return every name of the pool that has policies in the users file."""
        return [self._name(place) for place in range(self.size)]

    def take(self) -> str | None:
        """Give out the first free name; None when all are in use and more need a new users file."""
        place = 0
        while self._name(place) in self.in_use:
            place += 1
        if self.protections and place >= self.size:
            return None
        name = self._name(place)
        self.in_use.add(name)
        return name

    def _name(self, place: int) -> str:
        return f"ssot_test_{self.number:02d}_{place:03d}"


def config_file(users_file: str) -> str:
    """Return the text of the config file that names the users file."""
    return f"<clickhouse><users_config>{escape(users_file)}</users_config></clickhouse>\n"


def users_file(pools: list[Pool]) -> str:
    """Return the text of the users file: the one user chDB has, and the row policies of every pool."""
    databases = "".join(
        f"<database name={quoteattr(name)}>{_tables(pool.protections)}</database>\n"
        for pool in pools
        if pool.protections
        for name in pool.names()
    )
    # Access management lets the user read system.row_policies: what is in force is looked up, not assumed.
    return (
        "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default>\n"
        "<password></password><networks><ip>::/0</ip></networks>\n"
        "<profile>default</profile><quota>default</quota><access_management>1</access_management>\n"
        f"<databases>\n{databases}</databases>\n"
        "</default></users></clickhouse>\n"
    )


def _tables(protections: Protections) -> str:
    return "".join(
        f"<table name={quoteattr(table)}><filter>{escape(belongs_to_tenant(column))}</filter></table>"
        for table, column in sorted(protections)
    )
