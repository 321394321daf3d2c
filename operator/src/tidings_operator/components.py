"""Delivery properties of Dapr's pub/sub components, which limit what can be planned."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, NamedTuple

from tidings_operator.cache import Cache
from tidings_operator.client import Api
from tidings_plan.resources.accounts import accounts, connected
from tidings_plan.resources.brokers import Delivery, delivery

_KEY = secrets.token_bytes(32)


class Component(NamedTuple):
    """What is kept of a Component; other properties are dropped, because they may be passwords."""

    namespace: str
    name: str
    delivery: Delivery = Delivery()
    """How it delivers, with digests of its settings and of its consumer's address."""
    accounts: frozenset[str] = frozenset()
    """Digests of the broker accounts that it connects to."""

    @property
    def spelled(self) -> str:
        """Namespace and name."""
        return f"{self.namespace}/{self.name}"


def component(api: Api, item: Mapping[str, Any]) -> Component:
    """Read a Component from a list, where items have no kind."""
    document, metadata = {**item, "kind": api.kind}, item["metadata"]
    facts = delivery(document) or Delivery()
    consumer = facts.consumer and replace(facts.consumer, broker=_digest(facts.consumer.broker))
    return Component(
        metadata["namespace"],
        metadata["name"],
        replace(facts, settings=facts.settings and _digest(facts.settings), consumer=consumer),
        frozenset(map(_digest, accounts(document, metadata["namespace"]))),
    )


def _digest(account: str) -> str:
    """Return a digest that distinguishes accounts without revealing passwords."""
    return blake2b(account.encode(errors="surrogatepass"), key=_KEY, digest_size=16).hexdigest()


class Components:
    """Watches Components (a `watching.Sink`) and updates the inventory."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._known: dict[str, Component] = {}

    def listed(self, api: Api, namespace: str, items: Sequence[Component]) -> None:
        """Replace all Components; those missing in the list have been deleted."""
        present = {item.spelled for item in items}
        candidates = [known for known in self._known.values() if not namespace or known.namespace == namespace]
        for item in candidates:
            if item.spelled not in present:
                self._keep(Component(item.namespace, item.name))
        for item in items:
            self._keep(item)
        self._cache.listings.add((api.kind, namespace))

    def changed(self, api: Api, change: str, item: Mapping[str, Any]) -> None:
        """Handle a change."""
        now = component(api, item)
        self._keep(Component(now.namespace, now.name) if change == "DELETED" else now)

    def _keep(self, now: Component) -> None:
        """Update the inventory; if delivery has changed, queue all apps of the namespace."""
        before = self._known.get(now.spelled, Component(now.namespace, now.name))
        if now != Component(now.namespace, now.name):
            self._known[now.spelled] = now
        else:
            self._known.pop(now.spelled, None)
        if now == before:
            return
        inventory = self._cache.inventory
        inventory.set_delivery(now.namespace, now.name, now.delivery)
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
