"""Ids derived from a customer's request with a secret, so that nobody else can compute them."""

import hashlib
import hmac
import secrets
from uuid import UUID

import msgspec

from tidings import StateContext
from tidings.messages.envelope import new_id

_KEY = "ids"


class IdSecret(msgspec.Struct, kw_only=True):
    """Secret for deriving ids; shared by all replicas of this service."""

    value: str

    def order_id(self, customer_id: str, idempotency_key: str | None) -> str:
        """Return the id of a new order; the same id for the same customer and idempotency key."""
        return self._uuid("order", customer_id, idempotency_key) if idempotency_key else new_id()

    def customer_id(self, email: str) -> str:
        """Return the id of a customer identified by e-mail address, whatever the case of its ASCII letters.

        Unicode's case folding would make one of addresses that different persons may have: `straße` and `strasse`.
        """
        return self._uuid("customer", email.encode().lower().decode())

    def _uuid(self, *parts: str) -> str:
        digest = hmac.digest(self.value.encode(), msgspec.json.encode(parts), hashlib.sha256)
        return str(UUID(bytes=digest[:16], version=4))


async def id_secret(_nothing: None, context: StateContext) -> IdSecret:
    """Load the secret, or create it. Concurrent creators conflict, and all but one of them read it again."""
    secret = await context.load(IdSecret, _KEY)
    if secret is None:
        secret = IdSecret(value=secrets.token_hex(32))
        context.save(_KEY, secret)
    return secret
