"""The twin, held to what real daprd does: the same suite runs in tests/integration/test_sidecar_conformance_dapr.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from tests.conformance import PubSubConformance, StateConformance
from tests.conformance.support import Check

from tidings.testing import Clock, MemoryBroker, MemorySidecar, MemoryStore
from tidings.testing.asgi import App


class MemoryState:
    def __init__(self, *, atomic: bool) -> None:
        self.atomic = atomic
        self.clock = Clock()
        self.store = MemoryStore(self.clock, atomic=atomic)
        self.sidecar = MemorySidecar("orders", store=self.store)

    def other(self) -> MemorySidecar:
        return MemorySidecar("kitchen", store=self.store)

    def without_store(self) -> MemorySidecar:
        return MemorySidecar("orders", store=self.store, state="nowhere")

    def unreachable(self) -> MemorySidecar:
        sidecar = MemorySidecar("orders", store=self.store)
        sidecar.down = True
        return sidecar

    async def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)


class TestMemoryState(StateConformance):
    @pytest.fixture(params=[True, False], ids=["atomic", "like-redis"])
    def world(self, request: pytest.FixtureRequest) -> MemoryState:
        return MemoryState(atomic=request.param)


class MemoryPubSub:
    def __init__(self, *, creates_topics: bool) -> None:
        self.creates_topics = creates_topics
        self.broker = MemoryBroker(topics=None if creates_topics else [])
        self.sidecar = MemorySidecar("orders", self.broker)

    async def run(
        self, app: App, subscriptions: Iterable[dict[str, Any]], resiliency: dict[str, Any] | None, token: str
    ) -> None:
        self._program = list(subscriptions), resiliency, token
        self._app = app
        if not self.creates_topics:
            self.broker.add_topics(item["spec"]["topic"] for item in self._program[0])
        await self.app_up()

    async def app_down(self) -> None:
        self.broker.detach("orders")

    async def app_up(self) -> None:
        subscriptions, resiliency, token = self._program
        self.broker.attach("orders", self._app, subscriptions, resiliency=resiliency, token=token)

    async def until(self, check: Check) -> None:
        await self.broker.settle()
        assert check(), self.broker.stuck()

    def without_pubsub(self) -> MemorySidecar:
        return MemorySidecar("orders", self.broker, pubsub="nowhere")


class TestMemoryPubSub(PubSubConformance):
    @pytest.fixture(params=[False, True], ids=["like-jetstream", "like-redis"])
    def world(self, request: pytest.FixtureRequest) -> MemoryPubSub:
        return MemoryPubSub(creates_topics=request.param)
