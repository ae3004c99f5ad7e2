"""What the zoo's web applications and their surfaces share: who calls, and a client of one's own."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Header, HTTPException

from pytest_ssot_isolation.surfaces.base import Surface


def token_of(user_id: str) -> str:
    """Return a bearer token; a real one would be signed."""
    return "Bearer " + base64.urlsafe_b64encode(user_id.encode()).decode()


async def signed_in(authorization: Annotated[str, Header()]) -> str:
    """Return the user whose token the request carries."""
    kind, _, token = authorization.partition(" ")
    if kind != "Bearer":
        raise HTTPException(401)
    return base64.urlsafe_b64decode(token).decode()


CurrentUser = Annotated[str, Depends(signed_in)]


def client_of(app: Any) -> httpx.AsyncClient:
    """Return a client that calls the application in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://zoo.test")


class WebUser(Surface[FastAPI]):
    """Somebody with a client and a token of their own."""

    http: httpx.AsyncClient

    async def open(self) -> AsyncIterator[None]:
        async with client_of(self.world) as self.http:
            self.http.headers["authorization"] = token_of(self.user.user_id)
            yield
