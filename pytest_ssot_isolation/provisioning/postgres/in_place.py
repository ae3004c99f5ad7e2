"""A server on which the role may not create databases: the one given is emptied for each test instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_ssot_isolation.errors import DatabaseUnusable, ServerFailed
from pytest_ssot_isolation.provisioning.postgres.server import PostgresServer
from pytest_ssot_isolation.provisioning.postgres.slot import Slot

if TYPE_CHECKING:
    from pytest_ssot_isolation.provisioning.postgres.schema import Schema
    from pytest_ssot_isolation.provisioning.postgres.sessions import Leftover
    from pytest_ssot_isolation.provisioning.postgres.templates import Template

_ONE_USER_LOCK = 0x55307152
_REMEDY = 'let each test have its own: ALTER ROLE "{}" CREATEDB'


class InPlaceServer(PostgresServer):
    """Hands out the one database it was given, to one test at a time and to one worker alone."""

    _slot: Slot | None = None
    _is_out = False

    async def _begin(self) -> None:
        async with self._talk() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _ONE_USER_LOCK):
                raise ServerFailed(
                    f"The database {self._admin.database} is in use by another worker or run, and the\n"
                    "role of the DSN may not create databases of its own. Run without -n, or "
                    f"{_REMEDY.format(self._admin.user)}"
                )
            owner = await connection.fetchval(
                "SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()"
            )
            if not owner:
                raise ServerFailed(
                    f"The role of {self._admin} neither owns the database nor may create one.\n"
                    f"To fix this, {_REMEDY.format(self._admin.user)}"
                )
        await super()._begin()

    async def _hand_out(self, schema: Schema) -> Slot:
        template = self._template_for(schema)
        if self._is_out:
            raise DatabaseUnusable(
                "Two databases are asked for at the same time, and the role of the DSN may not create any.\n"
                f"To fix this, {_REMEDY.format(self._admin.user)}"
            )
        if self._slot is None or self._slot.template != template.name:
            self._slot = await self._rebuild(template)
        self._is_out = True
        return self._slot

    async def _rebuild(self, template: Template) -> Slot:
        if self._slot is not None:
            await self._slot.disconnect()
        slot = Slot(self._admin, self._roles, self.timeouts, template.name)
        owner = self._roles.owner
        async with self._talk() as connection:
            slot.ignore(connection.get_server_pid())
            steps = [self._drop_ours, f'GRANT CREATE ON DATABASE "{self._admin.database}" TO {owner}']
            if self._roles.major >= 15:  # Before, everybody may create there.
                steps.append(f"GRANT CREATE, USAGE ON SCHEMA public TO {owner}")
            await connection.execute(";\n".join(steps))
        await self._fill(template, slot)
        await slot.learn(None)
        return slot

    async def give_back(self, slot: Slot) -> tuple[Leftover, ...]:
        """Empty the database for the next test, and have it built anew when it is no longer what it was."""
        self._is_out = False
        is_same = False
        try:
            leftovers, is_same = await slot.retire()
        finally:
            if not is_same:
                await slot.disconnect()
                self._slot = None
        return leftovers

    async def _end(self) -> None:
        if self._slot is not None:
            await self._slot.disconnect()
        async with self._talk() as connection:
            await connection.execute(self._drop_ours)
        await super()._end()

    @property
    def _drop_ours(self) -> str:
        # What others own in this database stays as it is.
        return ";".join(f"DROP OWNED BY {role} CASCADE" for role in (self._roles.app, self._roles.owner))
