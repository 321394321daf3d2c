"""While an app is away its sidecar must keep every event, however many deliveries fail at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tidings.components import render
from tidings.sidecar.dapr import DaprSidecar
from tidings.testing.conformance import Recorder, event, poll, subscription, unique
from tidings.testing.fixtures import Serve, StartDaprd

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
SETS = Path(__file__).parents[2] / "components"
EVENTS = 32  # as many as the component has workers
RETRIED = {
    "apiVersion": "dapr.io/v1alpha1",
    "kind": "Resiliency",
    "metadata": {"name": "impatient"},
    "spec": {
        "policies": {"retries": {"often": {"policy": "constant", "duration": "20ms", "maxRetries": 1_000_000}}},
        "targets": {"components": {"pubsub": {"inbound": {"retry": "often"}}}},
    },
}


async def test_no_event_is_acknowledged_that_nobody_has_seen(redis: str, daprd: StartDaprd, serve: Serve) -> None:
    """Without our patch of daprd 1.18.1 (tidings.programs.pins) about one in a thousand failed deliveries counts as
    done, and its event is gone: 11 of these 32."""
    app, topic, app_id = Recorder(), unique("orders.orderPlaced"), unique("reader")
    served = await serve(app)
    pubsub = render(SETS / "redis", {"REDIS_HOST": redis, "REDIS_PASSWORD": ""})
    process = await daprd(app_id, resources=[*pubsub, subscription(topic, "/a"), RETRIED], app_port=served.port)
    await served.stop()
    sidecar = DaprSidecar(process.address)
    ids = {f"e-{number}" for number in range(EVENTS)}
    await asyncio.gather(*(sidecar.publish(topic, event(id=each).encode()) for each in ids))
    await asyncio.sleep(10)
    await served.start()
    await poll(lambda: set(app.ids("/a")) == ids)
    await sidecar.close()
