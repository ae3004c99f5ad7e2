"""What went wrong between the package and the server, told with its remedy."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pytest_ssot_isolation.errors import DatabaseUnusable, IsolationError, ServerFailed
from pytest_ssot_isolation.provisioning.home import last_words
from pytest_ssot_isolation.provisioning.postgres.address import Address
from pytest_ssot_isolation.provisioning.secret_text import hide_passwords

if TYPE_CHECKING:
    from pytest_ssot_isolation.provisioning.lease import Lease

T = TypeVar("T")


_REMEDIES: Final = {
    "42501": "Give a DSN whose role may CREATE DATABASE and CREATE ROLE, or leave the DSN out.",
    "53100": "The disk is full: free some space, or set TMPDIR to a folder with room.",
}


@dataclass(frozen=True, slots=True)
class Explained:
    """Tells a lost server from a failed statement, and why it is lost.

    Attributes:
        place: The server's.
        version: Such as ``"18.4"``.
        way: ``"dsn"``, ``"container"`` or ``"embedded"``.
        share: In a server of the run's own; None for somebody else's.
    """

    place: Address
    version: str
    way: str
    share: Lease | None

    async def of(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work; what goes wrong is raised as an error with its remedy."""
        import asyncpg

        try:
            return await work
        except IsolationError:
            raise
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError) as error:
            raise ServerFailed(await self._why_lost(error)) from None
        except (
            asyncpg.AdminShutdownError,
            asyncpg.CrashShutdownError,
            asyncpg.CannotConnectNowError,
        ) as error:
            raise ServerFailed(await self._why_lost(error)) from None
        except asyncpg.TooManyConnectionsError as error:
            raise DatabaseUnusable(
                f"PostgreSQL at {self.place.host}:{self.place.port} has no connection left: {error}.\n"
                "Close pools at the end of their test, make them smaller, or run fewer workers."
            ) from None
        except asyncpg.PostgresError as error:
            raise DatabaseUnusable(
                f"PostgreSQL {self.version} ({self.way}) refused what the tests' database needs:\n"
                f"  {hide_passwords(str(error))}\n"
                f"{_REMEDIES.get(error.sqlstate, 'Give a role that may, or leave the DSN out.')}"
            ) from None  # The driver's frames hold the statement, and it may hold a password.

    async def _why_lost(self, error: BaseException) -> str:
        place = f"PostgreSQL {self.version} ({self.way}) at {self.place.host}:{self.place.port}"
        words = hide_passwords(str(error) or type(error).__name__)
        if self.share is None:
            return f"{place} does not answer: {words}.\nStart it again, or give another: --ssot-postgres=DSN."
        for _ in range(8):
            if trouble := self.share.trouble():
                trouble = hide_passwords(trouble)
                if "No space left on device" in trouble:
                    trouble += f"\n{_REMEDIES['53100']}"
                return f"{place} is gone: {trouble}\nNothing is left of it; run again to start another."
            await asyncio.sleep(0.1)  # Its supervisor looks four times a second.
        said = hide_passwords(last_words(self.share.folder / "server.log"))
        remedy = "One of its processes may have been killed; run again."
        if "No space left on device" in said:
            remedy = _REMEDIES["53100"]
        return f"{place} broke the connection: {words}.\nIt said:\n{said or '  nothing'}\n{remedy}"
