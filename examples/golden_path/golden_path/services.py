"""All that the endpoints work with, built when the application starts and gone when it stops."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from golden_path.activity import Activity
from golden_path.agents import Agent, create_agent_instance_factory
from golden_path.cache import Drafts
from golden_path.connections import ConnectionFactory
from golden_path.context import UserExecutionContext
from golden_path.messages import MessageStore
from golden_path.notes import NoteStore
from golden_path.problems import Problems
from golden_path.runs import RunStore
from golden_path.timeouts import DatabaseTimeoutConfig
from golden_path.usage import ClickHouse, ClientFactory, UsageService, get_clickhouse_service
from golden_path.websockets import Notifications

_log = logging.getLogger("golden_path")


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one running application; each is told in every call for whom it works."""

    connections: ConnectionFactory
    clickhouse: ClickHouse
    notes: NoteStore
    runs: RunStore
    messages: MessageStore
    activity: Activity
    drafts: Drafts
    notifications: Notifications

    def agent(self, context: UserExecutionContext) -> Agent:
        """Return a new agent for this user."""
        return create_agent_instance_factory(context, look_up=self.notes.look_up).create()

    def usage(self, context: UserExecutionContext) -> UsageService:
        """Return the usage service of this user."""
        return get_clickhouse_service(context, clickhouse=self.clickhouse)

    async def carry_out(
        self, context: UserExecutionContext, run_id: uuid.UUID, label: str, prompt: str
    ) -> None:
        """Do the work of a run, in the background: it gets the context of the request that ordered it."""
        try:
            output, tokens = await self.agent(context).work(prompt)
            await self.runs.finish(context, run_id, output)
            if tokens:
                await self.usage(context).record(label, tokens)
            await self.activity.record(context, f"ran {label}")
            await self.notifications.publish(context, {"kind": "run finished", "label": label})
        except Exception:
            # The answer is out, so nobody else could be told.
            _log.exception("run %s was not carried out", run_id)


@asynccontextmanager
async def running_services(
    *, postgres_dsn: str, clickhouse: str | ClientFactory, timeouts: DatabaseTimeoutConfig
) -> AsyncIterator[Services]:
    """Yield the parts of an application, connected; leave nothing behind."""
    connections = ConnectionFactory(postgres_dsn, timeouts=timeouts)
    services = Services(
        connections=connections,
        clickhouse=ClickHouse(clickhouse),
        notes=NoteStore(connections, Problems()),
        runs=RunStore(connections),
        messages=MessageStore(connections),
        activity=Activity(connections),
        drafts=Drafts(),
        notifications=Notifications(),
    )
    await connections.open()
    try:
        yield services
    finally:
        await services.notifications.close()
        await services.clickhouse.close()
        await connections.close()
