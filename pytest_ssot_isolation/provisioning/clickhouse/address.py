"""Where a ClickHouse is and who asks: the parts of a DSN, whose password is never shown."""

from __future__ import annotations

import base64
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from pytest_ssot_isolation.errors import DatabaseUnusable, ServerFailed
from pytest_ssot_isolation.provisioning.secret_text import SecretText

_SHAPE: Final = "clickhouse://user:password@host:8123/app_test"
_TLS_PORTS: Final = (443, 8443)
_TELLING: Final = re.compile(r"Code: \d+\.[^\n]*")


@dataclass(frozen=True, slots=True)
class Address:
    """One user's way into one database, over HTTP."""

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
            DatabaseUnusable: It is no DSN of ClickHouse's HTTP interface; the text shows nothing of it.
        """
        try:
            parts = urlsplit(dsn)
            port = parts.port
        except ValueError:
            raise DatabaseUnusable(f"The DSN cannot be read.\nIt has to look like {_SHAPE}.") from None
        if parts.scheme not in ("clickhouse", "clickhouses", "http", "https") or not parts.hostname:
            # Nothing of it is quoted: what cannot be read may hold a password anywhere.
            raise DatabaseUnusable(
                f"The DSN is none of ClickHouse's HTTP interface.\nIt has to look like {_SHAPE}."
            )
        secure = parts.scheme in ("clickhouses", "https")
        if secure and port not in (None, *_TLS_PORTS):
            raise DatabaseUnusable(
                f"The DSN asks for TLS on port {port}, which clickhouse-connect cannot be told in a DSN.\n"
                f"Let the server listen on one of the ports {_TLS_PORTS}."
            )
        return cls(
            host=parts.hostname,
            port=port or (8443 if secure else 8123),
            user=unquote(parts.username or "") or "default",
            database=unquote(parts.path.lstrip("/").split("/")[0]) or "default",
            password=unquote(parts.password or ""),
            options=tuple(parse_qsl(parts.query)),
        )

    def at(self, database: str) -> Address:
        """Return the same user's way into another database."""
        return replace(self, database=database)

    def as_user(self, user: str, password: str) -> Address:
        """Return another user's way into the same database."""
        return replace(self, user=user, password=password)

    @property
    def dsn(self) -> SecretText:
        """The DSN, for ``clickhouse_connect.get_client``."""
        who = quote(self.user, safe="") + (f":{quote(self.password, safe='')}" if self.password else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = f"?{urlencode(self.options)}" if self.options else ""
        place = f"{host}:{self.port}/{quote(self.database, safe='')}"
        return SecretText(f"clickhouse://{who}@{place}{query}")

    def ask(self, query: str, timeout: float) -> str:
        """Return the one value of a query, by plain HTTP and without the driver.

        Args:
            query: Has one row of one column.
            timeout: Seconds until the server has to answer.

        Raises:
            ServerFailed: The server cannot be reached, or refuses; the text shows no password.
        """
        scheme = "https" if self.port in _TLS_PORTS else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        request = urllib.request.Request(f"{scheme}://{host}:{self.port}/?{urlencode({'query': query})}")
        # Never sent on by a redirect, unlike other headers.
        credentials = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return str(response.read().decode()).strip()
        except urllib.error.HTTPError as error:
            with error:
                told = self.hide(error.read().decode(errors="replace"))
            found = _TELLING.search(told)
            if error.code in (401, 403):
                raise ServerFailed(
                    f"ClickHouse at {self} refuses user or password"
                    f"{f' ({found[0][:200]})' if found else ''}.\nCorrect them in the DSN."
                ) from None
            raise ServerFailed(
                f"ClickHouse at {self} answered with an error: {found[0][:300] if found else error.code}"
            ) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise ServerFailed(
                f"Nothing answers as ClickHouse at {self}: {self.hide(str(reason))}\n"
                "Start the server, or correct host and port; the port is that of HTTP (8123), not 9000."
            ) from None

    def hide(self, text: str) -> str:
        """Return the text with this password starred out."""
        for secret in {self.password, quote(self.password, safe="")} - {""}:
            text = text.replace(secret, "***")
        return text

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.database}"
