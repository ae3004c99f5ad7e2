"""Bearer tokens: who signed in, under a signature, so that nothing has to be kept for it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

from golden_path.context import UserExecutionContext
from golden_path.errors import NotSignedIn


class Tokens:
    """Issues and reads the tokens of one service.

    Args:
        signing_key: Secret of the service; whoever knows it can sign in as anybody.
    """

    def __init__(self, signing_key: bytes) -> None:
        self._key = signing_key

    def issue(self, context: UserExecutionContext) -> str:
        """Return a token that signs its bearer in as this user."""
        who = json.dumps([context.tenant_id, context.user_id]).encode()
        return f"{base64.urlsafe_b64encode(who).decode()}.{self._sign(who)}"

    def read(self, authorization: str | None) -> UserExecutionContext:
        """Return a fresh context for the bearer named by an ``Authorization`` header.

        Raises:
            NotSignedIn: No header, or a token that was not issued here.
        """
        scheme, _, token = (authorization or "").partition(" ")
        encoded, _, signature = token.partition(".")
        if scheme.lower() != "bearer" or not signature:
            raise NotSignedIn("sign in first: POST /sign-in gives a bearer token")
        try:
            who = base64.urlsafe_b64decode(encoded)
        except ValueError:
            raise NotSignedIn("the token is not one of this service") from None
        if not hmac.compare_digest(signature.encode(), self._sign(who).encode()):
            raise NotSignedIn("the token is not one of this service")
        tenant_id, user_id = json.loads(who)
        return UserExecutionContext(user_id, tenant_id)

    def _sign(self, who: bytes) -> str:
        return hmac.new(self._key, who, hashlib.sha256).hexdigest()
