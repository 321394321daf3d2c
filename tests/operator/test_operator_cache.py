"""The operator's cache, which is small and sufficient, and the lease. No cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
from tests.operator import shop

from tidings_operator.cache import Cache, encode_status
from tidings_operator.client import ApiError, Client
from tidings_operator.lease import Lease
from tidings_operator.workqueue import Key

STATUS: dict[str, Any] = {
    "observedGeneration": 3,
    "conditions": [
        {
            "type": kind,
            "status": "True",
            "reason": "Fine",
            "message": "all is well",
            "observedGeneration": 3,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind in ("Ready", "Observed")
    ],
    "topics": ["orders.orderConfirmed.v1"],
    "warnings": [],
}


def turned(value: Any) -> Any:
    """Return the document with the fields of every object in another order, as the API server may send them."""
    if isinstance(value, Mapping):
        return {name: turned(value[name]) for name in reversed(list(value))}
    return [turned(item) for item in value] if isinstance(value, list) else value


def seen(cache: Cache, number: int, **metadata: Any) -> dict[str, Any]:
    body = deepcopy(shop.subscription("shop", f"wish-{number}", consumer={"appId": "kitchen"}))
    body["metadata"] |= {"uid": f"u{number}", "resourceVersion": "5", "generation": 3, **metadata}
    cache.handle_event(None, body)
    return body


def test_the_order_of_fields_is_no_difference_between_two_statuses():
    assert encode_status(STATUS) == encode_status(turned(STATUS))
    other = deepcopy(STATUS)
    other["topics"].append("orders.orderVanished.v1")
    assert encode_status(STATUS) != encode_status(other)


def test_subscriptions_share_what_they_have_in_common():
    cache = Cache(lambda _: None)
    seen(cache, 1)
    seen(cache, 2)
    one, other = (cache.inventory.subscriptions["shop", f"wish-{number}"] for number in (1, 2))
    assert one.spec.delivery is other.spec.delivery
    assert one.spec.consumer is other.spec.consumer
    assert one.metadata.name != other.metadata.name


def test_those_that_are_ready_are_counted_by_their_status():
    cache = Cache(lambda _: None)
    bodies = [seen(cache, number) for number in range(3)]
    assert cache.ready() == 0
    for version, body in enumerate(bodies[:2], 6):
        written = {**body, "status": STATUS, "metadata": {**body["metadata"], "resourceVersion": str(version)}}
        cache.handle_write(("EventSubscription", "shop", body["metadata"]["name"]), written)
    assert cache.ready() == 2


def test_our_own_write_of_a_status_is_ignored_and_a_foreign_one_is_not():
    dirty: list[Key] = []
    cache = Cache(dirty.append)
    body = seen(cache, 1)
    written = {**body, "status": STATUS, "metadata": {**body["metadata"], "resourceVersion": "6"}}
    cache.handle_write(("EventSubscription", "shop", "wish-1"), written)
    dirty.clear()
    cache.handle_event("MODIFIED", turned(written))
    assert not dirty
    metadata = {**body["metadata"], "resourceVersion": "7"}
    cache.handle_event("MODIFIED", {**written, "status": {**STATUS, "topics": ["lies"]}, "metadata": metadata})
    assert dirty == [Key("app", "shop", "kitchen")]


class LeaseServer(Client):
    """An API server with one lease and nothing else."""

    def __init__(self) -> None:
        super().__init__(lambda: pytest.fail("nobody logs in here"))
        self.lease: dict[str, Any] | None = None
        self.asked: list[str] = []
        self.hang = False

    async def request(self, method: str, path: str, body: Any = None, **how: Any) -> Any:
        self.asked.append(method)
        if self.hang:
            await asyncio.sleep(60)
        if method == "GET":
            if self.lease is None:
                raise ApiError(404, "none")
            return deepcopy(self.lease)
        version = int(self.lease["metadata"]["resourceVersion"]) if self.lease else 0
        if method == "PUT" and body["metadata"].get("resourceVersion") != str(version):
            raise ApiError(409, "somebody was faster")
        self.lease = deepcopy(body)
        self.lease["metadata"] = {**body["metadata"], "resourceVersion": str(version + 1)}
        return deepcopy(self.lease)


async def asked(server: LeaseServer, times: int) -> None:
    while len(server.asked) < times:  # noqa: ASYNC110 - the server counts, it signals nothing
        await asyncio.sleep(0.02)


async def test_a_lease_is_renewed_with_one_request_and_taken_over_when_it_is_lost():
    server = LeaseServer()
    lease = Lease(server, namespace="tidings-system", identity="a", duration=2.0)
    keeping = asyncio.create_task(lease.keep())
    try:
        await asyncio.wait_for(lease.taken.wait(), 60)
        await asyncio.wait_for(asked(server, 5), 60)
        assert server.asked[:2] == ["GET", "POST"]
        assert set(server.asked[2:]) == {"PUT"}

        assert server.lease
        server.lease["spec"]["holderIdentity"] = "b"  # as after a pause in which another took it
        server.lease["metadata"]["resourceVersion"] = "100"
        lease.taken.clear()
        await asyncio.wait_for(lease.taken.wait(), 60)
        assert server.lease["spec"]["holderIdentity"] == "a", "it is taken again when the other does not renew it"
        assert server.lease["spec"]["leaseTransitions"] >= 1
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_a_request_that_hangs_does_not_keep_the_next_renewal_waiting():
    server = LeaseServer()
    lease = Lease(server, namespace="tidings-system", identity="a", duration=3.0)
    keeping = asyncio.create_task(lease.keep())
    try:
        await asyncio.wait_for(lease.taken.wait(), 60)
        server.hang = True
        before = len(server.asked)
        await asyncio.wait_for(asked(server, before + 1), 60)
        server.hang = False
        await asyncio.wait_for(asked(server, before + 2), 60)  # given up after a third of the duration
        async with asyncio.timeout(60):
            while not lease.held:  # noqa: ASYNC110 - it is renewed with the answer
                await asyncio.sleep(0.02)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
