"""How the pub/sub components of Dapr deliver: what is planned must be possible on them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tidings.resources.brokers import one_at_a_time, several_at_once, shares_workers
from tidings_operator.client import Api
from tidings_operator.workqueue import Key
from tidings_operator.world import World


class Delivery(NamedTuple):
    """All that is kept of a Component: what else stands in one may be a password."""

    namespace: str
    name: str
    serial: bool = False
    sharing: bool = False
    concurrent: bool = False

    @property
    def spelled(self) -> str:
        """As the inventory has it."""
        return f"{self.namespace}/{self.name}"


def delivery(api: Api, item: Mapping[str, Any]) -> Delivery:
    """Read a Component as a list has it, where items have no kind."""
    document, metadata = {**item, "kind": api.kind}, item["metadata"]
    traits = (trait(document) is not None for trait in (one_at_a_time, shares_workers, several_at_once))
    return Delivery(metadata["namespace"], metadata["name"], *traits)


class Components:
    """Sees Components (a `watching.Sink`) and tells the inventory."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: dict[str, Delivery] = {}

    def listed(self, api: Api, namespace: str, found: Sequence[Delivery]) -> None:
        """Take all there are; those that are not among them are gone."""
        there = {each.spelled for each in found}
        gone = [each for each in self._known.values() if not namespace or each.namespace == namespace]
        for each in gone:
            if each.spelled not in there:
                self._keep(Delivery(each.namespace, each.name))
        for each in found:
            self._keep(each)
        self._world.listings.add((api.kind, namespace))

    def changed(self, api: Api, change: str, item: Mapping[str, Any]) -> None:
        """Take one change."""
        now = delivery(api, item)
        self._keep(Delivery(now.namespace, now.name) if change == "DELETED" else now)

    def _keep(self, now: Delivery) -> None:
        """Tell the inventory; where it delivers otherwise than before, every app of the namespace is looked at."""
        before = self._known.get(now.spelled, Delivery(now.namespace, now.name))
        if now.serial or now.sharing or now.concurrent:
            self._known[now.spelled] = now
        else:
            self._known.pop(now.spelled, None)
        if now == before:
            return
        inventory = self._world.inventory
        for names, holds in (
            (inventory.serial, now.serial),
            (inventory.sharing, now.sharing),
            (inventory.concurrent, now.concurrent),
        ):
            (names.add if holds else names.discard)(now.spelled)
        for app in inventory.consuming_apps:
            if app[0] == now.namespace:
                self._world.dirty(Key("app", *app))
