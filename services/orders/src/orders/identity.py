"""Ids that follow from what a customer sends, and that nobody else can compute from it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from uuid import UUID

import msgspec

from tidings import StateContext
from tidings.envelope import new_id

_ONLY = "ids"


class IdSecret(msgspec.Struct, kw_only=True):
    """What ids are made with: the same in every replica, and known to this service alone."""

    value: str

    def order_id(self, customer_id: str, idempotency_key: str | None) -> str:
        """Name a new order. A customer's same key names the same order, so that it cannot be placed twice."""
        return self._uuid("order", customer_id, idempotency_key) if idempotency_key else new_id()

    def customer_id(self, email: str) -> str:
        """Name a customer who is known by the e-mail address."""
        return self._uuid("customer", email.casefold())

    def _uuid(self, *parts: str) -> str:
        digest = hmac.digest(self.value.encode(), msgspec.json.encode(parts), hashlib.sha256)
        return str(UUID(bytes=digest[:16], version=4))


async def id_secret(_nothing: None, context: StateContext) -> IdSecret:
    """Read the secret; whoever comes first makes it."""
    found = await context.load(IdSecret, _ONLY)
    if found is None:
        found = IdSecret(value=secrets.token_hex(32))
        context.save(_ONLY, found)
    return found
