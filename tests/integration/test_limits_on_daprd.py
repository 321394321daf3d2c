"""Limits from an EventSubscription's YAML, kept by back-pressure on real sidecars and brokers.

A consumer that takes one event a second while hundreds wait: it keeps its rate, nothing is delivered twice, its other
topics flow, and the producer does not notice.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import nats
import pytest
import pytest_asyncio
import yaml

from tidings.brokers.jetstream import stream_name
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

ROOT = Path(__file__).resolve().parents[2]
ENOUGH = 24  # events at one a second: longer than the 20 s after which the brokers redeliver an unanswered event
WAITING = 600
TOPIC = "sender.numberPaced.v1"

pytestmark = [pytest.mark.real, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]


def project(folder: Path, broker: str) -> Path:
    """Return the counting services; on Redis, the slow subscription uses the component that the README describes."""
    copy = folder / "numbered"
    shutil.copytree(ROOT / "tests/chaos/numbered", copy)
    shutil.copytree(ROOT / "components", folder / "components")
    described = yaml.safe_load((copy / "tidings.yaml").read_text())
    (copy / "tidings.yaml").write_text(yaml.safe_dump({**described, "components": str(folder / "components")}))
    if broker == "redis":
        component = yaml.safe_load((ROOT / "components/redis/pubsub.yaml").read_text())
        component["metadata"]["name"] = "slow"
        for setting in component["spec"]["metadata"]:
            setting["value"] = {"concurrency": "4", "queueDepth": "1"}.get(setting["name"], setting["value"])
        (folder / "components/redis/slow.yaml").write_text(yaml.safe_dump(component))
        file = copy / "services/receiver/contracts/subscriptions.yaml"
        subscriptions = list(yaml.safe_load_all(file.read_text()))
        for subscription in subscriptions:
            if "rateLimit" in subscription["spec"]:
                subscription["spec"]["source"] = {"pubsub": "slow"}
        file.write_text(yaml.safe_dump_all(subscriptions))
    return copy


@pytest_asyncio.fixture(scope="module", params=["nats", "redis"], loop_scope="module")
async def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    folder = tmp_path_factory.mktemp(request.param)
    options = Options(
        free_ports=True, run_dir=folder / "run", broker=request.param, environment={"RECEIVER_WORK": "0.02"}
    )
    async with running(project(folder, request.param), options) as run:
        yield run


class Counting:
    """The two services, as a test talks to them."""

    def __init__(self, run: Run, client: httpx2.AsyncClient) -> None:
        self.run, self.client = run, client

    async def send(self, kind: str, parcel: str, size: int) -> None:
        """Publish a parcel's numbers."""
        answer = await self.client.post(f"{self.run.url('sender')}/parcels/{kind}/{parcel}", params={"size": size})
        answer.raise_for_status()

    async def counted(self, kind: str, parcel: str) -> dict[str, int]:
        answer = await self.client.get(f"{self.run.url('receiver')}/parcels/{kind}/{parcel}")
        result: dict[str, int] = answer.raise_for_status().json()["counted"]
        return result

    async def arrives(self, kind: str, parcel: str, size: int) -> None:
        """Wait until a parcel has been counted, each number once."""
        async with asyncio.timeout(120):
            while len(result := await self.counted(kind, parcel)) < size:  # noqa: ASYNC110 - another process counts
                await asyncio.sleep(0.02)
        assert set(result.values()) == {1}

    async def watched(self, kind: str) -> dict[str, int]:
        body: dict[str, int] = (await self.client.get(f"{self.run.url('receiver')}/watched/{kind}")).json()
        return body

    async def began(self) -> list[float]:
        result: list[float] = (await self.client.get(f"{self.run.url('receiver')}/watched/paced")).json()["began"]
        return result

    async def metric(self, name: str) -> float:
        port = self.run.state.find("receiver").ports["metrics"]
        text = (await self.client.get(f"http://127.0.0.1:{port}/metrics")).text
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(name)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def counting(system: Run) -> AsyncIterator[Counting]:
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        yield Counting(system, client)


async def delivered_again(run: Run) -> int:
    """Return the number of messages that were delivered repeatedly and are still unacknowledged."""
    if run.state.broker == "nats":
        client = await nats.connect(run.broker_url)
        info = await client.jetstream().consumer_info(stream_name(TOPIC), "receiver")
        await client.close()
        return info.num_redelivered or 0
    reader, writer = await asyncio.open_connection("127.0.0.1", run.find("redis").ports["app"])
    password = urlsplit(run.broker_url).password
    writer.write(f"AUTH {password}\r\n".encode() if password else b"")
    writer.write(f"XPENDING {TOPIC} receiver - + 100\r\nPING\r\n".encode())
    answer = await reader.readuntil(b"+PONG\r\n")
    writer.close()
    numbers = [int(line[1:]) for line in answer.split(b"\r\n") if line.startswith(b":")]  # idle, deliveries, …
    assert numbers, "somewhat must wait"
    return sum(deliveries > 1 for deliveries in numbers[1::2])


async def test_a_rate_is_kept_without_delaying_other_consumers(system: Run, counting: Counting) -> None:
    await counting.send("told", "warm", 300)
    before = time.time()
    for number in range(6):
        await counting.send("told", f"free-{number}", WAITING // 6)
        await counting.send("paced", f"slow-{number}", WAITING // 6)
    assert len(await counting.began()) < WAITING, "the producer did not wait for the limited consumer"

    for number in range(6):  # another topic of the same consumer
        await counting.arrives("told", f"free-{number}", WAITING // 6)
    assert len(await counting.began()) < WAITING, "nor did the consumer's other topics"

    async with asyncio.timeout(120):
        while len(began := await counting.began()) < ENOUGH:
            # This process waits in line for its own events only: JetStream brings one, Redis what its component holds.
            assert await counting.metric('tidings_limit_waiting{subscription="receiver-paced"}') <= 8
            await asyncio.sleep(0.2)
    # One that began late on a busy machine is followed by one in time: the count since the start is what must hold.
    assert len(began) <= time.time() - before + 1, "the rate is never exceeded"
    assert await delivered_again(system) == 0
    waited = 'tidings_limit_wait_seconds_total{subscription="receiver-paced"}'
    async with asyncio.timeout(120):  # on a slow machine fewer of them have to wait, and it takes longer
        while await counting.metric(waited) < ENOUGH / 2:  # noqa: ASYNC110 - another process counts
            await asyncio.sleep(0.2)


async def test_the_concurrency_limit_is_kept(system: Run, counting: Counting) -> None:
    await counting.send("shared", "1", 60)
    await counting.arrives("shared", "1", 60)
    assert (await counting.watched("shared"))["mostAtOnce"] == 2


async def test_one_key_is_handled_one_after_the_other(system: Run, counting: Counting) -> None:
    parcels = [f"p{number}" for number in range(4)]
    await asyncio.gather(*(counting.send("queued", parcel, 15) for parcel in parcels))
    for parcel in parcels:
        await counting.arrives("queued", parcel, 15)
    watched = await counting.watched("queued")
    assert watched["mostOfOneParcel"] == 1
    assert system.state.broker == "nats" or watched["mostAtOnce"] > 1
