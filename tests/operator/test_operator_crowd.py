"""Bad subscriptions among ten times as many good ones: all get a reason, and no good one waits for them.

bench/operator_hostile.py does the same with a hundred among a thousand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from tests.operator import shop
from tests.operator.cluster import ADMIN, Cluster, path_of
from tests.operator.conftest import Start, login, until
from tests.support import faulty

from tidings_cli.testing.fixtures import Serve, serve
from tidings_operator import reconciling, replaying
from tidings_operator.client import OWN, Client
from tidings_operator.operating import Operator

__all__ = ["serve"]
pytestmark = pytest.mark.real
WISHES = OWN["EventSubscription"]
GOOD, BAD, PER_APP, AT_ONCE = 300, 30, 10, 16
PATIENCE = 400.0
SHARING = 10
FAULTS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"filters": [{"cel": "event.data.total >"}]}, "MalformedCel"),
    ({"type": "orders.orderVanished"}, "UnknownType"),
    ({"versions": ["v9"]}, "UnknownVersion"),
)


@dataclass
class CrowdStatus:
    """Result of a crowd."""

    reasons: dict[str, str]
    """By subscription, why it is Ready or not."""
    seconds: dict[str, float]
    """By subscription, from the operator's start to its status."""
    writes: int
    """Requests that the operator made in the namespace, reads left out."""


def good(namespace: str, number: int) -> dict[str, Any]:
    app, routes = {"appId": f"app{number // PER_APP}"}, {"default": f"/good/{number}"}
    filters = [{"exact": {"data.n": number}}]
    return shop.subscription(namespace, f"good-{number}", consumer=app, routes=routes, filters=filters)


def bad(namespace: str, number: int) -> dict[str, Any]:
    """Return one bad subscription for every app that has good ones."""
    spec, _ = FAULTS[number % len(FAULTS)]
    return shop.subscription(namespace, f"bad-{number}", consumer={"appId": f"app{number}"}, **spec)


async def crowd_status(cluster: Cluster, namespace: str, crowd: list[dict[str, Any]], operator: Start) -> CrowdStatus:
    """Create a crowd, start an operator and wait until each has a status."""
    cluster.apply(shop.event_type(namespace))
    since = cluster.audit_log.stat().st_size
    reasons: dict[str, str] = {}
    seconds: dict[str, float] = {}
    async with Client(login(cluster, ADMIN)) as client:
        await _created(client, namespace, crowd)
        _, version = await client.list(WISHES, namespace, metadata_only=True)
        begun = time.monotonic()

        async def listen() -> None:
            last = version
            while len(reasons) < len(crowd):  # the API server ends the watch of whoever is slow
                async for event in client.watch(WISHES, namespace, selector="", version=last, seconds=600):
                    last = event["object"]["metadata"]["resourceVersion"]
                    name = event["object"]["metadata"].get("name", "")
                    for condition in (event["object"].get("status") or {}).get("conditions", ()):
                        if condition["type"] == "Ready":
                            reasons[name] = condition["reason"]
                            seconds.setdefault(name, time.monotonic() - begun)
                    if len(reasons) == len(crowd):
                        return

        listening = asyncio.create_task(listen())
        made = await operator()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(listening, PATIENCE)
    assert len(reasons) == len(crowd), f"only {len(reasons)} of {len(crowd)} have a status after {PATIENCE:.0f} s"
    await until(lambda: made.queue.idle, "all is done", 120)
    return CrowdStatus(reasons, seconds, _writes(cluster, namespace, since))


async def _created(client: Client, namespace: str, crowd: list[dict[str, Any]]) -> None:
    left = iter(crowd)

    async def create() -> None:
        for item in left:
            await client.request("POST", WISHES.path(namespace), item)

    await asyncio.gather(*(create() for _ in range(AT_ONCE)))


def _writes(cluster: Cluster, namespace: str, since: int) -> int:
    entries = map(json.loads, cluster.audit_log.read_bytes()[since:].decode().splitlines())
    return sum(
        (entry.get("objectRef") or {}).get("namespace") == namespace and entry["verb"] not in ("get", "list", "watch")
        for entry in entries
    )


@pytest.mark.timeout(600)
async def test_bad_subscriptions_delay_no_good_ones(cluster: Cluster, operator: Start) -> None:
    for name in ("crowd-good", "crowd-mixed"):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    async def start(namespace: str) -> Any:
        return await operator(namespaces=(namespace,), patience=PATIENCE)

    alone = await crowd_status(
        cluster, "crowd-good", [good("crowd-good", n) for n in range(GOOD)], lambda: start("crowd-good")
    )
    # The bad ones are the older: whatever goes by age or by order of arrival has them in front.
    crowd = [bad("crowd-mixed", n) for n in range(BAD)] + [good("crowd-mixed", n) for n in range(GOOD)]
    mixed = await crowd_status(cluster, "crowd-mixed", crowd, lambda: start("crowd-mixed"))

    names = [f"good-{n}" for n in range(GOOD)]
    assert {alone.reasons[name] for name in names} == {mixed.reasons[name] for name in names} == {"Programmed"}
    expected = {f"bad-{n}": FAULTS[n % len(FAULTS)][1] for n in range(BAD)}
    assert {name: reason for name, reason in mixed.reasons.items() if name in expected} == expected
    # A bad one costs its own status and the event that tells of it: no child, no second try of anybody's.
    assert mixed.writes - alone.writes <= 2 * BAD


async def health(made: Operator) -> None:
    """Ask /healthz again and again. How long an answer takes is measured by bench/operator_hostile.py."""
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://127.0.0.1:{made.port}/healthz") as answer:
                assert answer.status == 200, await answer.text()
            await asyncio.sleep(0.05)


@pytest.mark.timeout(600)
async def test_subscriptions_that_cannot_be_judged_delay_no_good_ones(
    cluster: Cluster, operator: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "plan_app", faulty.plan_app)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "hostile-mixed"}})
    asking: list[asyncio.Task[None]] = []

    async def start(namespace: str) -> Any:
        made = await operator(namespaces=(namespace,), patience=PATIENCE)
        asking.append(asyncio.create_task(health(made)))
        return made

    kinds = ("endless", "crash", "bottomless")
    # Ten of them are in an app with good ones, the others in an app of their own.
    crowd = [
        shop.subscription(
            "hostile-mixed",
            f"{kinds[n % 3]}-{n}",
            consumer={"appId": f"app{n}" if n < SHARING else f"evil{n}"},
            routes={"default": f"/evil/{n}"},
        )
        for n in range(BAD)
    ] + [good("hostile-mixed", n) for n in range(GOOD)]
    mixed = await crowd_status(cluster, "hostile-mixed", crowd, lambda: start("hostile-mixed"))
    for item in asking:
        assert not item.done(), "it was alive throughout"
        item.cancel()

    names = [f"good-{n}" for n in range(GOOD)]
    assert {mixed.reasons[name] for name in names} == {"Programmed"}
    assert {reason for name, reason in mixed.reasons.items() if name not in names} == {"NotJudged"}
    # Whatever the machine's speed: the good ones do not wait until those have been looked at thoroughly.
    alone = sorted(mixed.seconds[f"good-{n}"] for n in range(SHARING * PER_APP, GOOD))
    most = alone[len(alone) * 3 // 4]
    endless = [seconds for name, seconds in mixed.seconds.items() if name.startswith("endless")]
    ahead = sum(seconds < most for seconds in endless)
    assert ahead <= len(endless) // 4, f"{ahead} of {len(endless)} went ahead of most of the good ones"


@pytest.mark.parametrize("where", ["plan_replay", "fits"])
async def test_a_replay_that_cannot_be_evaluated_is_reported_and_delays_no_one(
    cluster: Cluster, namespace: str, operator: Start, serve: Serve, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Filters of a replay are a tenant's expressions, held against events: neither may hold the event loop up."""

    def endless(*_: Any) -> Any:
        while True:
            pass

    async def archive(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        letter: dict[str, Any] = {"number": 1, "subscription": None, "eventId": "e", "type": "t", "version": 1,
                  "reason": "", "lastAttempt": None, "receivedAt": "2026-01-01T00:00:00Z", "event": {}}  # fmt: skip
        outcomes = dict.fromkeys(("sent", "handled", "failed", "unread", "dropped", "unconfirmed"), 0)
        answers: dict[str, Any] = {"/deadletters/1": letter, "/deadletters/outcomes": outcomes}
        body = answers.get(scope["path"], {"deadLetters": [letter], "next": None})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    monkeypatch.setattr(replaying, where, endless)
    served = await serve(archive)
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    filters = {"match": [{"exact": {"data.n": 1}}]}
    order = cluster.apply(shop.replay(namespace, source={"kind": "DeadLetters"}, filter=filters))
    await operator(archive_url=f"http://127.0.0.1:{served.port}")
    if where == "plan_replay":
        await until(
            lambda: shop.conditions(cluster, order).get("Ready", {}).get("reason") == "NotJudged", "it is told", 60
        )
    else:  # the dead letter alone is skipped
        path = path_of(order)
        await until(lambda: "cannot be judged" in str(cluster.get(path).get("status")), "it is skipped", 60)
    await until(lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "others go on", 60)
