"""The state store is away for longer than a broker waits for an acknowledgement: each event is handled once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.conformance import poll, unique
from tests.support import bad_events
from tests.support.bad_events import SETS, encoded, envelope
from tests.support.proxy import FaultProxy, Mode

from tidings.brokers.components import render
from tidings.brokers.redis import pending
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_cli.testing.programs import Ports, redis_server
from tidings_cli.up.ports import HOST

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]
# As in production, but shorter: the broker brings again what nobody has acknowledged for two seconds.
SHORT = {"ackWait": "2s", "processingTimeout": "2s", "redeliverInterval": "500"}
AWAY = 6.0
"""Seconds: several times as long as the broker waits."""
EVENTS = 150
"""More than the workers and the queue of a sidecar take."""


@pytest.mark.parametrize("mode", ["cut", "silent"])
@pytest.mark.parametrize("broker", ["nats", "redis", "rabbitmq", "kafka"])
async def test_each_event_is_handled_once_after_the_state_store_was_away(
    broker: str,
    mode: Mode,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    daprd: StartDaprd,
    serve: Serve,
    ports: Ports,
) -> None:
    app, address = unique("till").replace(".", "-"), request.getfixturevalue(broker)
    target, front = ports.take(), ports.take()
    [state] = render(SETS / "state-redis", {"REDIS_HOST": f"{HOST}:{front}", "REDIS_PASSWORD": ""})
    with redis_server(tmp_path, target):
        async with (
            FaultProxy(front, target) as proxy,
            bad_events.running(broker, address, app, tmp_path, daprd, serve, "10s", changed=SHORT, state=state) as (
                shop,
                letters,
                publish,
            ),
        ):
            await publish([encoded(envelope(number)) for number in range(10)])
            await shop.until_handled(range(10))
            async with proxy.failing(mode):
                await publish([encoded(envelope(number)) for number in range(10, EVENTS)])
                await asyncio.sleep(AWAY)
                await poll(lambda: max(shop.tried.values()) > 1, patience=60)
            await publish([encoded(envelope(number)) for number in range(EVENTS, EVENTS + 10)])
            handled = await shop.until_handled(range(EVENTS + 10), patience=120)
            if broker == "redis":
                topic = bad_events.topic_of(app)
                await poll(lambda: pending(f"redis://{address}", [topic]) == {(topic, app): 0}, patience=60)
        assert handled == dict.fromkeys(range(EVENTS + 10), 1)
        assert letters == [], "the store's absence is no event's fault"
