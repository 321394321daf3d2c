"""Two replicas of the archive on PostgreSQL, each with a sidecar, of which one is killed during a replay."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import nats as nats_client
import pytest
import pytest_asyncio
from tests.support.bad_events import publish
from tests.support.postgres import own_database

from tidings.brokers.jetstream import stream_name
from tidings.messages.envelope import timestamp
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

ROOT = Path(__file__).parents[2]
CONFIRMED = "orders.orderConfirmed.v2"
DATA = json.loads((ROOT / "services/orders/contracts/examples/orders.orderConfirmed.v2.pickup.json").read_text())
REPLICAS = ("archive", "archive-1")
EVENTS = 120
IDS = [f"e-{number:03}" for number in range(EVENTS)]
DEAD_IDS = [f"d-{number:03}" for number in range(EVENTS)]
RATE = 10  # events a second: a replay lasts for twelve seconds, and its replica is killed in the second one
PATIENCE = 120.0  # seconds; what a killed sidecar's app had taken comes back after the broker's ackWait of 20 s

pytestmark = [pytest.mark.real, pytest.mark.timeout(500), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", params=REPLICAS, loop_scope="module")
async def run(
    request: pytest.FixtureRequest, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Run, str]]:
    """Run two replicas of the archive, and pickup; yields the replica to kill with the run."""
    victim = request.param
    async with own_database(postgres) as database:
        environment = {"ARCHIVE_DATABASE_URL": database, "ARCHIVE_REPLAY_RATE": str(RATE), "ARCHIVE_REPLAY_SETTLE": "1"}
        options = Options(
            only=("archive", "pickup"),
            replicas={"archive": 2},
            free_ports=True,
            run_dir=tmp_path_factory.mktemp(victim) / "run",
            environment={**environment, "PICKUP_AUTOPILOT": "false"},
        )
        async with running(ROOT, options) as started:
            yield started, victim


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        yield client


def events(ids: list[str], **attributes: str) -> Iterator[bytes]:
    for number, identity in enumerate(ids):
        envelope = {
            "specversion": "1.0", "id": identity, "source": "orders", "type": "orders.orderConfirmed",
            "version": "2", "subject": f"o-{number:03}", "time": timestamp(), "datacontenttype": "application/json",
            "data": {**DATA, "orderId": f"o-{number:03}"}, **attributes,
        }  # fmt: skip
        yield json.dumps(envelope).encode()


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    end = time.monotonic() + PATIENCE
    while not await holds():
        if time.monotonic() > end:
            pytest.fail(f"it did not come about within {PATIENCE:g} s")
        await asyncio.sleep(0.1)


async def read(http: httpx2.AsyncClient, url: str) -> Any:
    """Read from a replica, again as long as its database does not answer in time, which on a busy machine happens."""
    async with asyncio.timeout(PATIENCE):
        while (answer := await http.get(url)).status_code == 503:  # noqa: ASYNC110 - nothing tells when it answers
            await asyncio.sleep(0.1)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ask_first(http: httpx2.AsyncClient, urls: list[str]) -> None:
    """Ask for a replay at the first URL that answers."""
    for url in itertools.cycle(urls):
        try:
            answer = await http.post(url, json={"batch": "b-1"})
        except httpx2.TransportError:
            await asyncio.sleep(0.05)
            continue
        if answer.status_code != 503:
            assert answer.status_code == 202, answer.text
            return


async def replay_ids(run: Run, ids: list[str]) -> dict[str, set[str]]:
    """Return the replay ids under which each of these events has been sent to pickup."""
    sent: defaultdict[str, set[str]] = defaultdict(set)
    client = await nats_client.connect(run.broker_url)
    stream, context = stream_name("replay.pickup"), client.jetstream()
    for number in range(1, (await context.stream_info(stream)).state.last_seq + 1):
        event = json.loads((await context.get_msg(stream, number)).data or b"{}")
        sent[event["id"]].add(event["replayid"])
    await client.close()
    return {identity: sent[identity] for identity in ids if identity in sent}


async def test_the_other_replica_ends_a_replay_of_events(run: tuple[Run, str], http: httpx2.AsyncClient) -> None:
    system, victim = run
    (other,) = {*REPLICAS} - {victim}
    await publish("nats", system.broker_url, CONFIRMED, list(events(IDS)))

    async def get(path: str) -> Any:
        return await read(http, f"{system.url(other)}{path}")

    async def kept() -> bool:
        return bool((await get("/counts")).get(CONFIRMED) == EVENTS)

    async def has_sent(number: int) -> bool:
        return bool((await get("/replays/r-1"))["sent"] >= number)

    async def ended() -> bool:
        return bool((await get("/replays/r-1"))["state"] != "running")

    async def confirmed() -> bool:
        return bool((await get("/replays/r-1"))["handled"] >= EVENTS)

    await eventually(kept)
    body = {"replayId": "r-1", "consumer": "pickup", "types": ["orders.orderConfirmed"]}
    assert (await http.post(f"{system.url(victim)}/replays", json=body)).status_code == 202
    await eventually(lambda: has_sent(RATE))
    async with system.stopped(victim, signal.SIGKILL):
        assert not await ended(), "the replay is under way when its replica dies"
        await eventually(ended)
        await eventually(lambda: all_sent(system, IDS))
    replay = await get("/replays/r-1")
    assert (replay["state"], replay["matched"], replay["sent"]) == ("completed", EVENTS, EVENTS)
    await eventually(confirmed)
    assert (await get("/replays/r-1"))["handled"] == EVENTS, "what went out twice counts once"
    assert await replay_ids(system, IDS) == {identity: {"r-1"} for identity in IDS}


async def all_sent(run: Run, ids: list[str]) -> bool:
    return len(await replay_ids(run, ids)) == EVENTS


async def test_a_batch_of_dead_letters_is_sent_by_the_other_replica(
    run: tuple[Run, str], http: httpx2.AsyncClient
) -> None:
    system, victim = run
    (other,) = {*REPLICAS} - {victim}
    failure = {"failuresubscription": "pickup-order-confirmed", "failurereason": "odd"}
    await publish("nats", system.broker_url, "deadletter.pickup", list(events(DEAD_IDS, **failure)))

    async def letters(state: str) -> list[int]:
        page = await read(http, f"{system.url(other)}/deadletters?limit=500&state={state}")
        return [item["number"] for item in page["deadLetters"]]

    async def kept() -> bool:
        return len(await letters("open")) == EVENTS

    async def all_handled() -> bool:
        return len(await letters("handled")) == EVENTS

    await eventually(kept)
    numbers, asked = await letters("open"), 0
    under_way = asyncio.Event()

    async def replay(number: int) -> None:
        """Ask a replica, and the other one where the first does not answer."""
        nonlocal asked
        replicas = (victim, other) if number % 2 else (other, victim)
        await ask_first(http, [f"{system.url(replica)}/deadletters/{number}/replay" for replica in replicas])
        asked += 1
        if asked == EVENTS // 4:
            under_way.set()

    async def replay_all() -> None:
        limit = asyncio.Semaphore(4)

        async def one(number: int) -> None:
            async with limit:
                await replay(number)

        await asyncio.gather(*map(one, numbers))

    replaying = asyncio.create_task(replay_all())
    await under_way.wait()
    async with system.stopped(victim, signal.SIGKILL):
        await replaying
        await eventually(lambda: all_sent(system, DEAD_IDS))
    await eventually(all_handled)
    sent = await replay_ids(system, DEAD_IDS)
    assert sorted(sent) == DEAD_IDS
    assert [len(ids) for ids in sent.values()] == [1] * EVENTS, "no letter is replayed a second time"
    outcomes = await read(http, f"{system.url(other)}/deadletters/outcomes?batch=b-1")
    assert (outcomes["sent"], outcomes["handled"], outcomes["unconfirmed"]) == (EVENTS, EVENTS, 0)
