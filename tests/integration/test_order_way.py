"""The same orders, from the page's click to the points, on each broker that runs here."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from scenarios import ordering
from tests.support.brokers import available

from tidings.brokers.rabbitmq import QueueError, ensure_queues
from tidings.messages.envelope import new_id
from tidings_cli.testing.programs import Ports, rabbitmq_server
from tidings_cli.up.run import running
from tidings_cli.up.system import Options

pytestmark = [pytest.mark.real, pytest.mark.timeout(500)]
ROOT = Path(__file__).parents[2]
PACE = {"KITCHEN_PACE": "0", "PICKUP_PACE": "0", "DELIVERY_PACE": "0"}


@pytest.fixture
def rabbitmq_alone(ports: Ports) -> Iterator[str]:
    """Run a RabbitMQ that knows no queue yet."""
    with tempfile.TemporaryDirectory(prefix="tidings-") as folder, rabbitmq_server(Path(folder), ports) as url:
        yield url


@pytest.mark.parametrize("broker", ["nats", "redis", "rabbitmq", "kafka"])
async def test_every_order_goes_its_way_and_all_counts_agree(
    broker: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The system is new on each: on RabbitMQ, events published before a service first subscribes are not lost."""
    address = request.getfixturevalue("rabbitmq_alone") if broker == "rabbitmq" else available(broker)
    options = Options(free_ports=True, run_dir=tmp_path / "run", environment=PACE, broker=address)
    async with running(ROOT, options) as run, httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        before = await ordering.counts(client, run.url)
        burst = await ordering.place(client, run.url, 10, concurrency=5, seed=10)
        assert not burst.refusals
        await ordering.follow(client, run.url, burst.ids, patience=200)
        assert await ordering.until_agreed(client, run.url, before, burst.due()) == []


def test_queues_are_made_a_single_time_and_what_is_in_the_way_is_named(
    rabbitmq: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = f"orders.order{new_id()[-6:]}Confirmed.v2"
    published = [("kitchen", {"spec": {"topic": topic}})]
    assert ensure_queues(rabbitmq, published) == [f"kitchen:-{topic}", topic]
    assert ensure_queues(rabbitmq, published) == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    with pytest.raises(QueueError, match="is it running at that address"):
        ensure_queues("amqp://guest:guest@127.0.0.1:1/", published)
