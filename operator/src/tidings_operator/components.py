"""Delivery properties of Dapr's pub/sub components, which limit what can be planned."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, NamedTuple

from tidings_operator.cache import Cache
from tidings_operator.client import Api
from tidings_plan.resources.accounts import accounts, connected
from tidings_plan.resources.brokers import (
    Consumer,
    StartPosition,
    consumer,
    one_at_a_time,
    settings,
    several_at_once,
    shares_workers,
    start_position,
)

_KEY = secrets.token_bytes(32)


class Delivery(NamedTuple):
    """The properties that are kept of a Component; others are dropped, because they may be passwords."""

    namespace: str
    name: str
    serial: bool = False
    sharing: bool = False
    concurrent: bool = False
    start: StartPosition = "Unknown"
    settings: str = ""
    """Digest of the settings that must equal those of components that deliver in parallel."""
    consumer: Consumer | None = None
    """Its consumer at the broker, whose address is a digest."""
    accounts: frozenset[str] = frozenset()
    """Digests of the broker accounts that it connects to."""

    @property
    def spelled(self) -> str:
        """As the inventory has it."""
        return f"{self.namespace}/{self.name}"


def delivery(api: Api, item: Mapping[str, Any]) -> Delivery:
    """Read a Component from a list, where items have no kind."""
    document, metadata = {**item, "kind": api.kind}, item["metadata"]
    return Delivery(
        metadata["namespace"],
        metadata["name"],
        serial=one_at_a_time(document) is not None,
        sharing=shares_workers(document) is not None,
        concurrent=several_at_once(document) is not None,
        start=start_position(document),
        settings=_digest(shared) if (shared := settings(document)) else "",
        consumer=replace(found, broker=_digest(found.broker)) if (found := consumer(document)) else None,
        accounts=frozenset(map(_digest, accounts(document, metadata["namespace"]))),
    )


def _digest(account: str) -> str:
    """Return a digest that distinguishes accounts without revealing passwords."""
    return blake2b(account.encode(errors="surrogatepass"), key=_KEY, digest_size=16).hexdigest()


class Components:
    """Watches Components (a `watching.Sink`) and updates the inventory."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._known: dict[str, Delivery] = {}

    def listed(self, api: Api, namespace: str, items: Sequence[Delivery]) -> None:
        """Replace all Components; those missing in the list have been deleted."""
        present = {item.spelled for item in items}
        candidates = [known for known in self._known.values() if not namespace or known.namespace == namespace]
        for item in candidates:
            if item.spelled not in present:
                self._keep(Delivery(item.namespace, item.name))
        for item in items:
            self._keep(item)
        self._cache.listings.add((api.kind, namespace))

    def changed(self, api: Api, change: str, item: Mapping[str, Any]) -> None:
        """Handle a change."""
        now = delivery(api, item)
        self._keep(Delivery(now.namespace, now.name) if change == "DELETED" else now)

    def _keep(self, now: Delivery) -> None:
        """Update the inventory; if delivery has changed, queue all apps of the namespace."""
        before = self._known.get(now.spelled, Delivery(now.namespace, now.name))
        if now != Delivery(now.namespace, now.name):
            self._known[now.spelled] = now
        else:
            self._known.pop(now.spelled, None)
        if now == before:
            return
        inventory = self._cache.inventory
        for names, holds in (
            (inventory.serial, now.serial),
            (inventory.sharing, now.sharing),
            (inventory.concurrent, now.concurrent),
        ):
            (names.add if holds else names.discard)(now.spelled)
        inventory.start_positions[now.spelled] = now.start
        inventory.add_consumer(now.namespace, now.name, now.consumer)
        inventory.settings.pop(now.spelled, None)
        if now.settings:
            inventory.settings[now.spelled] = now.settings
        near = {now.namespace, *self._sharing(now.namespace)}
        known = (item.accounts for item in self._known.values() if item.namespace == now.namespace)
        inventory.accounts[now.namespace] = frozenset[str]().union(*known)
        near |= self._sharing(now.namespace)
        for key in self._cache.everything():
            if key.namespace in near and key.what in ("app", "EventType"):
                self._cache.dirty(key)

    def _sharing(self, namespace: str) -> set[str]:
        """Return the namespaces that share a broker account with one."""
        known = self._cache.inventory.accounts
        return {other for other in known if connected(known, namespace, other)}
