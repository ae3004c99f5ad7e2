"""Family 10: policies that are right, and a role, a command or a function that gets past them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from pytest_ssot_isolation.generation.strategies import secrets
from pytest_ssot_isolation.model.context import UserExecutionContext
from pytest_ssot_isolation.surfaces.base import operation

from .exhibits import Exhibit
from .row_security import ENABLED, FORCED, OWN, SAFE, TABLE, Notes, NoteUser, on

if TYPE_CHECKING:
    from pytest_ssot_isolation.provisioning.postgres import PostgresDatabase


def as_administrator(database: PostgresDatabase, statement: str) -> None:
    """Do what neither the application's role nor the schema's owner may do."""
    slot = database._open

    async def work() -> None:
        async with slot._working:
            await (await slot._connected()).execute(statement)

    database.server.run(work())


# -- a login role with BYPASSRLS -----------------------------------------------------------------------------


def by_role(powers: str) -> Callable[[PostgresDatabase], Any]:
    """The application signs in with a role that an administrator made for it."""

    def make(database: PostgresDatabase) -> Any:
        dsn = database.dsn_for(UserExecutionContext("service"), user_setting="app.service")
        role = dsn.partition("://")[2].partition(":")[0]
        as_administrator(database, f'alter role "{role}" {powers}')

        @asynccontextmanager
        async def world() -> AsyncIterator[Notes]:
            async with asyncpg.create_pool(dsn, min_size=1, max_size=3) as pool:
                yield Notes(pool)

        return world()

    return make


# -- a function that says it tells nothing of its arguments --------------------------------------------------

ABOVE = """
create function is_above(body text, bound numeric) returns boolean language plpgsql immutable cost 1 as
$$ begin return body::numeric > bound; end $$;
"""


class Ledger(Notes):
    async def above(self, user: str, least: int) -> int:
        async with self.acting(user) as connection:
            found: int = await connection.fetchval(
                "select count(*) from note where is_above(body, $1)", least
            )
            return found


def ledger(*, marked: str) -> Callable[[PostgresDatabase], Any]:
    """An administrator marked the function, since a query that calls it was slow behind the policy."""

    def make(database: PostgresDatabase) -> Any:
        as_administrator(database, f"alter function is_above(text, numeric) {marked}")
        return on(Ledger)(database)

    return make


class Accountant(NoteUser):
    world: Ledger

    @operation(body=secrets(int))
    async def book(self, body: int) -> None:
        await self.world.add(self.user.user_id, "booking", str(body))

    @operation(may_fail=True)
    async def above(self) -> int:
        return await self.world.above(self.user.user_id, 1000)


COMMANDS = "create policy own on note for select using ({own}); create policy writing on note {command};"


EXHIBITS = {
    "policy_for_every_command": Exhibit(
        surface=NoteUser,
        leaky=on(Notes),
        safe=on(Notes),
        leaky_schema=TABLE
        + COMMANDS.format(own=OWN, command=f"for all using (true) with check ({OWN})")
        + ENABLED
        + FORCED,
        safe_schema=TABLE
        + COMMANDS.format(own=OWN, command=f"for insert with check ({OWN})")
        + ENABLED
        + FORCED,
    ),
    "role_with_bypassrls": Exhibit(
        surface=NoteUser,
        leaky=by_role("bypassrls"),
        safe=by_role("nobypassrls"),
        leaky_schema=SAFE,
        safe_schema=SAFE,
    ),
    "leakproof_function": Exhibit(
        surface=Accountant,
        leaky=ledger(marked="leakproof"),
        safe=ledger(marked="not leakproof"),
        leaky_schema=SAFE + ABOVE,
        safe_schema=SAFE + ABOVE,
    ),
}
