"""EventReplays with everything real: the archive's process, sidecars, a broker, and a consumer that confirms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import nats
import pytest
import pytest_asyncio
from tests.operator import shop
from tests.operator.cluster import Cluster
from tests.operator.conftest import Start, until

from tidings.messages.envelope import Envelope, timestamp
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

ROOT = Path(__file__).parents[2]
TYPE, TOPIC, TARGET = "orders.orderCancelled", "orders.orderCancelled.v1", "pickup-order-cancelled"
GOOD, BAD = 3, 2

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


@pytest_asyncio.fixture
async def system(tmp_path: Path) -> AsyncIterator[Run]:
    """Run pickup and the archive on NATS."""
    options = Options(only=("pickup", "archive"), free_ports=True, fresh=True, run_dir=tmp_path,
                      environment={"ARCHIVE_REPLAY_SETTLE": "0"})  # fmt: skip
    async with running(ROOT, options) as started:
        yield started


def cancelled(identity: str, data: object) -> bytes:
    """Return an order that was cancelled, which pickup does not know."""
    return Envelope(
        id=identity,
        source="orders",
        type=TYPE,
        specversion="1.0",
        version="1",
        subject=identity,
        time=timestamp(),
        data=msgspec.Raw(msgspec.json.encode(data)),
    ).encode()


async def test_the_status_counts_what_a_real_consumer_confirms(
    cluster: Cluster, namespace: str, operator: Start, system: Run
) -> None:
    cluster.apply(shop.event_type(namespace, TYPE, owner={"team": "orders"}, producers=["orders"]))
    cluster.apply(shop.subscription(namespace, TARGET, type=TYPE, consumer={"appId": "pickup", "kit": True}))
    broker = await nats.connect(system.broker_url)
    good = [cancelled(f"o-{n}", {"orderId": f"o-{n}", "stage": "confirmed"}) for n in range(GOOD)]
    for entry in [*good, *(cancelled(f"bad-{n}", {"orderId": 7}) for n in range(BAD))]:
        await broker.jetstream().publish(TOPIC, entry)
    await broker.close()
    archive = system.url("archive")

    def kept() -> bool:
        letters = httpx2.get(f"{archive}/deadletters", params={"subscription": TARGET}, timeout=60, trust_env=False)
        counts = httpx2.get(f"{archive}/counts", timeout=60, trust_env=False)
        if HTTPStatus.SERVICE_UNAVAILABLE in (letters.status_code, counts.status_code):
            return False  # the database did not answer in time, which a stalled disk is enough for
        return len(letters.json()["deadLetters"]) == BAD and counts.json().get(TOPIC) == GOOD + BAD

    await until(kept, "the archive has all of them")
    await operator(archive_url=archive, replay_poll=0.2)

    def ended(order: dict[str, Any]) -> bool:
        return shop.status(cluster, order).get("phase") in ("Completed", "Failed")

    for source, name, matched, handled in (("DeadLetters", "letters", BAD, 0), ("Archive", "events", GOOD + BAD, GOOD)):
        order = cluster.apply(
            shop.replay(
                namespace, name, source={"kind": source}, filter={"type": TYPE}, target={"subscription": TARGET}
            )
        )
        await until(partial(ended, order), f"{source}: it has ended", 120)
        status = shop.status(cluster, order)
        counts = {item: status[item] for item in ("matched", "sent", "handled", "failed", "unread", "unconfirmed")}
        assert counts == {
            "matched": matched,
            "sent": matched,
            "handled": handled,
            "failed": BAD,
            "unread": 0,
            "unconfirmed": 0,
        }
        assert shop.conditions(cluster, order)["Confirmed"]["reason"] == "Failed"
