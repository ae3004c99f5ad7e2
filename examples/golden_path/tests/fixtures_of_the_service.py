"""The running service, and two people who use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest_asyncio
from running import client_of, running, sign_in
from starlette.applications import Starlette


@pytest_asyncio.fixture
async def service(postgres: Any, clickhouse: Any) -> AsyncIterator[Starlette]:
    """The application, started."""
    async with running(postgres, clickhouse) as app:
        yield app


@pytest_asyncio.fixture
async def alice(service: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client signed in as alice, of the tenant north."""
    async with client_of(service) as http:
        await sign_in(http, "alice", "north")
        yield http


@pytest_asyncio.fixture
async def bob(service: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client signed in as bob, of the tenant south."""
    async with client_of(service) as http:
        await sign_in(http, "bob", "south")
        yield http
