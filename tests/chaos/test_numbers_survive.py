"""Numbered events while all kinds of processes are killed: every number that was sent counts exactly once.

Every test prints what was sent, received, lost and doubled (`pytest -s`), and fails on any lost or doubled.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import nats
import pytest
import pytest_asyncio
from kafka import KafkaConsumer, TopicPartition  # type: ignore[import-untyped]  # it has no types
from scenarios.counting import PARCEL, Numbers
from tests.support.brokers import available
from tests.support.proxy import FaultProxy, Mode

from tidings.brokers.jetstream import stream_name
from tidings.brokers.kafka import Address
from tidings_cli.testing.programs import Ports, nats_server, public_folder
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

NUMBERED = Path(__file__).parent / "numbered"
TOPIC, DEAD = "sender.numberTold.v1", "deadletter.receiver"
PARCELS = itertools.count(1)
KILLED = pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda item: item.name)
VICTIMS = pytest.mark.parametrize("victim", ["sender", "sender.daprd", "receiver", "receiver.daprd", "broker"])

pytestmark = [pytest.mark.chaos, pytest.mark.real, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]


class Trial:
    """A running system, and numbers that must get through."""

    def __init__(self, run: Run, client: httpx2.AsyncClient) -> None:
        self.run, self.numbers = run, Numbers(run.url, client)

    async def under(self, *events: Callable[[], Awaitable[Any]], parcels: int = 6, pause: float = 0.5) -> None:
        """Send parcels, let things happen meanwhile, and hold what arrived against what was sent."""
        names = [f"{next(PARCELS)}" for _ in range(parcels)]
        sending = asyncio.create_task(self.numbers.send(names))
        for event in events:
            await asyncio.sleep(pause)
            await event()
        await sending
        await self.arrived(names)

    async def arrived(self, names: list[str], **how: Any) -> None:
        """Wait for what must arrive; fails on any lost or doubled."""
        report = await self.numbers.settled(names, **how)
        print(report)  # noqa: T201 - what the test is for
        assert report.faultless, str(report)
        assert report.sent == len(names) * PARCEL


@asynccontextmanager
async def trial(folder: Path, **options: Any) -> AsyncIterator[Trial]:
    chosen = Options(free_ports=True, run_dir=folder, **options)
    async with running(NUMBERED, chosen) as run, httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        yield Trial(run, client)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["nats", "redis", "kafka"])
async def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trial]:
    async with trial(tmp_path_factory.mktemp(request.param), broker=available(request.param)) as result:
        yield result


@KILLED
@VICTIMS
async def test_a_process_dies_while_numbers_flow(system: Trial, victim: str, how: signal.Signals) -> None:
    name = system.run.state.broker if victim == "broker" else victim

    async def die() -> None:
        await system.run.kill(name, how)

    await system.under(die)
    await system.run.wait_ready()


async def test_a_late_consumer_misses_nothing(system: Trial) -> None:
    async def be_late() -> None:
        async with system.run.stopped("receiver"):
            await asyncio.sleep(5)

    await system.under(be_late)


async def test_poison_goes_to_the_dead_letters_and_holds_no_one_up(system: Trial) -> None:
    names = [f"{next(PARCELS)}" for _ in range(3)]
    before = await dead_letters(system.run)
    await system.numbers.send(names, poisoned=50)
    await system.arrived(names, poisoned=50)
    async with asyncio.timeout(120):  # the numbers after it may be counted before the dead letter is published
        while len(await dead_letters(system.run)) < len(before) + len(names):  # noqa: ASYNC110 - the broker is asked
            await asyncio.sleep(0.2)
    letters = [dead_letter for dead_letter in await dead_letters(system.run) if dead_letter not in before]
    assert sorted(letter["data"]["parcel"] for letter in letters) == sorted(names)
    published = {(letter["failurereason"], letter["failureclass"], letter["failuresubscription"]) for letter in letters}
    assert published == {("poison", "Rejected", "receiver-told")}
    assert {letter["failuretopic"] for letter in letters} == {TOPIC}


async def dead_letters(run: Run) -> list[dict[str, Any]]:
    if run.state.broker == "redis":
        return await dead_letters_on_redis(run.broker_url)
    if run.state.broker == "kafka":
        return await asyncio.to_thread(dead_letters_on_kafka, run.broker_url)
    client = await nats.connect(run.broker_url)
    stream = client.jetstream()
    state = (await stream.stream_info(stream_name(DEAD))).state
    result = [await stream.get_msg(stream_name(DEAD), number) for number in range(1, state.messages + 1)]
    await client.close()
    return [json.loads(item.data or b"") for item in result]


async def dead_letters_on_redis(url: str) -> list[dict[str, Any]]:
    asked = ("redis-cli", "-u", url, "--json", "XRANGE", DEAD, "-", "+")
    process = await asyncio.create_subprocess_exec(*asked, stdout=asyncio.subprocess.PIPE)
    answer, _ = await process.communicate()
    return [json.loads(fields[fields.index("data") + 1]) for _, fields in json.loads(answer)]


def dead_letters_on_kafka(url: str) -> list[dict[str, Any]]:
    consumer = KafkaConsumer(**Address.of(url).client, enable_auto_commit=False)
    partitions = [TopicPartition(DEAD, number) for number in consumer.partitions_for_topic(DEAD) or ()]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    result: list[dict[str, Any]] = []
    ends = consumer.end_offsets(partitions)
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        result += [json.loads(item.value) for batch in consumer.poll(1000).values() for item in batch]
    consumer.close()
    return result


@pytest.mark.parametrize("state", ["redis", "postgres"])
async def test_the_state_store_is_away(state: str) -> None:
    with public_folder() as folder:  # PostgreSQL does not run as root
        async with trial(folder / "run", state=state) as system:

            async def stop() -> None:
                async with system.run.stopped(state, signal.SIGKILL):
                    await asyncio.sleep(5)

            await system.under(stop)


async def test_replicas_die_and_are_replaced_one_after_the_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    names = [f"{service}{number}" for service in ("sender", "receiver") for number in ("", "-1")]
    async with trial(tmp_path_factory.mktemp("replicas"), replicas={"sender": 2, "receiver": 2}) as system:

        async def roll() -> None:
            for name in names:
                await system.run.restart(name)
                await system.run.restart(f"{name}.daprd")

        async def die() -> None:
            await system.run.kill("receiver-1")
            await system.run.kill("receiver.daprd")

        await system.under(roll, parcels=30)
        await system.under(die)


@pytest.mark.parametrize("mode", ["cut", "silent"])
@pytest.mark.parametrize("seconds", [1, 15])
async def test_the_network_to_the_broker_fails(
    tmp_path_factory: pytest.TempPathFactory, mode: Mode, seconds: float
) -> None:
    folder = tmp_path_factory.mktemp(mode)
    with Ports() as ports:
        port, target = ports.take(), ports.take()
        with nats_server(folder, target):
            async with (
                FaultProxy(port, target) as proxy,
                trial(folder / "run", broker=f"nats://127.0.0.1:{port}") as system,
            ):

                async def fail() -> None:
                    async with proxy.failing(mode):
                        await asyncio.sleep(seconds)

                await system.under(fail, fail)


@pytest.mark.parametrize("seconds", [60, 150])
async def test_the_broker_is_back_after_a_long_time(tmp_path_factory: pytest.TempPathFactory, seconds: float) -> None:
    """After about two minutes daprd stops reconnecting, and the local run restarts it."""
    async with trial(tmp_path_factory.mktemp(f"away-{seconds}")) as system:

        async def stop() -> None:
            async with system.run.stopped("nats", signal.SIGKILL):
                await asyncio.sleep(seconds)

        await system.under(stop)
        restarts = sum(process.restarts for process in system.run.state.processes if process.role == "sidecar")
        assert restarts == (0 if seconds < 100 else 2)
