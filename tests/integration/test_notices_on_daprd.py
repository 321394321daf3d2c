"""Notices to owners from two replicas of the archive on PostgreSQL, each with a sidecar on NATS."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import nats as nats_client
import pytest
from tests.conformance import Recorder, poll, subscription
from tests.support.brokers import values_of
from tests.support.postgres import own_database
from tests.unit.test_archive_notices import receiver
from typer.testing import CliRunner

from tidings.brokers.components import render
from tidings.brokers.jetstream import stream_name
from tidings_cli.commands import app
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

ROOT = Path(__file__).parents[2]
TYPE = "tidings.subscriptionFailed"
TOPIC, PATH = f"{TYPE}.v1", "/notices"
REPLICAS = ("archive", "archive-1")
MATTERS, POSTS = 4, 3
"""Matters, and how often each replica is told each of them."""
PATIENCE = 120.0

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


@pytest.fixture
async def webhook() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    async with receiver() as opened:
        yield opened


@pytest.fixture
async def run(postgres: str, webhook: tuple[str, list[dict[str, Any]]], tmp_path: Path) -> AsyncIterator[Run]:
    async with own_database(postgres) as database:
        environment = {
            "ARCHIVE_DATABASE_URL": database,
            "ARCHIVE_NOTICE_WEBHOOK": webhook[0],
            "ARCHIVE_NOTICE_WEBHOOK_HTTP": "true",
            "TIDINGS_DEADLINE": "60",
        }
        options = Options(
            only=("archive",),
            replicas={"archive": 2},
            free_ports=True,
            run_dir=tmp_path / "run",
            environment=environment,
        )
        async with running(ROOT, options) as started:
            yield started


def failed(number: int) -> dict[str, Any]:
    data = {
        "namespace": "pizza",
        "owners": [{"name": "counter", "contact": "#counter"}],
        "subscription": f"s-{number}",
        "app": "pickup",
        "reason": "UnknownType",
        "message": "m",
        "since": "2026-01-01T00:00:00Z",
    }
    return {"type": TYPE, "data": data}


async def test_what_both_replicas_are_told_concurrently_is_published_and_sent_once(
    run: Run, webhook: tuple[str, list[dict[str, Any]]], daprd: StartDaprd, serve: Serve
) -> None:
    owner = Recorder()
    served = await serve(owner)
    resources = [*render(ROOT / "components" / "nats", values_of("nats", run.broker_url)), subscription(TOPIC, PATH)]
    await daprd("owner", resources=resources, app_port=served.port)
    matters = [f"s-{number}" for number in range(MATTERS)]

    async with httpx2.AsyncClient(timeout=PATIENCE, trust_env=False) as http:

        async def post(replica: str, number: int) -> tuple[int, bool]:
            answer = await http.post(f"{run.url(replica)}/notices", json=failed(number))
            assert answer.status_code == 200, answer.text
            return number, answer.json()["published"]

        posts = [post(replica, number) for number in range(MATTERS) for _ in range(POSTS) for replica in REPLICAS]
        published = [number for number, is_published in await asyncio.gather(*posts) if is_published]
        assert sorted(published) == [*range(MATTERS)]

        async def sent(replica: str) -> bool:
            notices = (await http.get(f"{run.url(replica)}/notices")).json()["notices"]
            assert {(notice["times"], notice["webhookError"]) for notice in notices} == {(1, None)}
            return [notice["webhook"] for notice in notices] == ["sent"] * MATTERS

        async with asyncio.timeout(PATIENCE):
            while not all([await sent(replica) for replica in REPLICAS]):  # noqa: ASYNC110 - asked, as by a user
                await asyncio.sleep(0.1)

    _, messages = webhook
    assert Counter(message["text"] for message in messages) == Counter(
        f"The subscription {name} is not ready: UnknownType [pizza]" for name in matters
    )
    await poll(lambda: len(owner.at(PATH)) >= MATTERS, PATIENCE)
    assert sorted(event["subject"] for event in owner.at(PATH)) == matters
    assert {(event["type"], event["source"], event["data"]["reason"]) for event in owner.at(PATH)} == {
        (TYPE, "archive", "UnknownType")
    }
    client = await nats_client.connect(run.broker_url)
    assert (await client.jetstream().stream_info(stream_name(TOPIC))).state.messages == MATTERS
    await client.close()
    async with asyncio.timeout(PATIENCE):  # `ps` waits for an answer of the archive for a second only
        while "cannot be read" in (shown := await listed(run)):  # noqa: ASYNC110 - asked, as by a user
            await asyncio.sleep(0.1)
    assert shown.count(" ago: The subscription s-") == MATTERS, shown
    assert f"{run.url('archive')}/console/notices" in shown


async def listed(run: Run) -> str:
    """Return the output of `tidings ps`."""
    return (await asyncio.to_thread(CliRunner().invoke, app, ["ps", "--run-dir", str(run.run_dir)])).output
