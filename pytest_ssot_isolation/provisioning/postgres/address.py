"""Where a database is and who asks: the parts of a DSN, whose password is never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from pytest_ssot_isolation.errors import DatabaseUnusable
from pytest_ssot_isolation.provisioning.secret_text import SecretText, hide_passwords

_SHAPE = "postgresql://user:password@host:5432/app_test"


@dataclass(frozen=True, slots=True)
class Address:
    """One role's way into one database."""

    host: str
    port: int
    user: str
    database: str
    password: str = field(default="", repr=False)
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, dsn: str) -> Address:
        """Take a DSN apart.

        Raises:
            DatabaseUnusable: It is no DSN of PostgreSQL, or names several hosts; the text shows no password.
        """
        try:
            parts = urlsplit(dsn)
            options = dict(parse_qsl(parts.query))
            host = options.pop("host", None) or parts.hostname or "127.0.0.1"
            port = int(options.pop("port", 0)) or parts.port or 5432
        except ValueError:
            raise DatabaseUnusable(f"The DSN cannot be read.\nIt has to look like {_SHAPE}.") from None
        if parts.scheme not in ("postgresql", "postgres") or "," in parts.netloc:
            raise DatabaseUnusable(
                f"{hide_passwords(dsn)!r} is no DSN of one PostgreSQL server.\nIt has to look like {_SHAPE}."
            )
        user = unquote(parts.username or "") or options.pop("user", "") or "postgres"
        return cls(
            host=host,
            port=port,
            user=user,
            database=unquote(parts.path.lstrip("/")) or options.pop("dbname", "") or user,
            password=unquote(parts.password or "") or options.pop("password", ""),
            options=tuple(options.items()),
        )

    def at(self, database: str) -> Address:
        """Return the same role's way into another database of the server."""
        return replace(self, database=database)

    def as_role(self, user: str, password: str) -> Address:
        """Return another role's way into the same database."""
        return replace(self, user=user, password=password)

    def with_settings(self, settings: Mapping[str, str]) -> Address:
        """Return the same way in, with settings that every session begins with."""
        escaped = ((name, re.sub(r"([\\\s])", r"\\\1", value)) for name, value in settings.items())
        words = " ".join(f"-c {name}={value}" for name, value in escaped)
        return replace(self, options=(*self.options, ("options", words)))

    def url(self, driver: str | None = None) -> SecretText:
        """Return the DSN, with a driver's name for SQLAlchemy when one is given."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        secret = f":{quote(self.password, safe='')}" if self.password else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        options = dict(self.options)
        if host.startswith("/"):
            options, host = {"host": host, **options}, ""
        query = f"?{urlencode(options, quote_via=quote)}" if options else ""
        who = quote(self.user, safe="")
        place = f"{host}:{self.port}/{quote(self.database, safe='')}"
        return SecretText(f"{scheme}://{who}{secret}@{place}{query}")

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database}"
