"""What a tenant of a namespace writes neither ends nor stalls the controller of its broker's topics and rights."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import pytest
from tests.integration.test_topology import NEWCOMER, WHOLE, Server, manifests
from tests.support import faulty

from tidings.brokers import watch
from tidings.brokers.jetstream import stream_name
from tidings_cli.testing.programs import Ports, nats_server
from tidings_operator import planning, topology
from tidings_operator.client import OWN
from tidings_operator.topology import METRICS, Settings, TopologyController, present
from tidings_plan.types import grants as grants_of_the_core

TYPES, SUBSCRIPTIONS = OWN["EventType"], OWN["EventSubscription"]
PATIENCE = 120.0


def settings(folder: Path, **given: Any) -> Settings:
    chosen = {"nats_url": "", "replicas": 1, "granted": {}, "scopes": True, **given}
    return Settings(namespace="pizza", component="pubsub", ready=folder / "ready", **chosen)


def subscription(name: str, app: str, **spec: Any) -> dict[str, Any]:
    """Return a subscription as a list of the API server has it."""
    return {
        "metadata": {"name": name, "namespace": "pizza", "generation": 1, "uid": name},
        "spec": {**NEWCOMER["spec"], "consumer": {"appId": app}, **spec},
    }


def event_type(name: str, **spec: Any) -> dict[str, Any]:
    given = {"type": name, "owner": {"team": "zoo"}, "producers": ["zoo"], "versions": [{"name": "v1"}], **spec}
    given["versions"] = [{"name": "v1", "schema": {"type": "object"}}]
    metadata = {"name": name.lower(), "namespace": "pizza", "generation": 1, "uid": name}
    return {"metadata": metadata, "spec": given}


async def until(condition: Callable[[], Any], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"not within {PATIENCE:.0f} s: {what}")


@pytest.mark.parametrize("kind", ["endless", "crash", "bottomless", "greedy", "raising"])
async def test_a_subscription_that_harms_the_planner_ends_and_stalls_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    monkeypatch.setattr(planning, "plan_app", faulty.plan_app)
    server, chosen = Server(), settings(tmp_path)
    controller = TopologyController(server, chosen)  # type: ignore[arg-type] # it asks for no more than these two
    controller.listed(TYPES, "", manifests("EventType"))
    hostile_apps = ("evil", "kitchen")
    hostile = [subscription(f"{kind}-{n}", app) for n, app in enumerate(hostile_apps)]
    controller.listed(SUBSCRIPTIONS, "", [*hostile, *manifests("EventSubscription")])
    keeping = asyncio.create_task(controller._keep())
    controller.changed(SUBSCRIPTIONS, "ADDED", NEWCOMER)
    await until(lambda: "fraud" in server.live["scopes"], "a good app has its rights")
    await until(lambda: all(f"{app} cannot be planned" in caplog.text for app in hostile_apps), "those are given up")
    controller.changed(SUBSCRIPTIONS, "DELETED", NEWCOMER)
    await until(lambda: "fraud" not in server.live["scopes"], "rights are taken away, too")
    assert not keeping.done()
    result = present(server.live, WHOLE.apps)
    assert result["kitchen"]["subscribe"], "an app that cannot be planned loses nothing"
    assert "evil" not in server.live["scopes"]

    kinder = {**hostile[0], "metadata": {**hostile[0]["metadata"], "name": f"{kind}-0", "generation": 2}}
    monkeypatch.undo()
    controller.changed(SUBSCRIPTIONS, "MODIFIED", kinder)
    await until(lambda: "evil" in server.live["scopes"], "what was mended is planned again")
    keeping.cancel()


@pytest.mark.parametrize("granted", [{}, {"kitchen": {"publish": [], "subscribe": ["replay.kitchen"]}}])
async def test_an_app_that_is_not_decided_yet_keeps_its_rights_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, granted: dict[str, Any]
) -> None:
    monkeypatch.setattr(planning, "plan_app", faulty.plan_app)
    server = Server()
    before = present(server.live, ["kitchen"])
    controller = TopologyController(server, settings(tmp_path, granted=granted))  # type: ignore[arg-type]
    controller.listed(TYPES, "", manifests("EventType"))
    controller.listed(SUBSCRIPTIONS, "", [*manifests("EventSubscription"), subscription("crash-1", "kitchen")])
    inventory = await controller._inventory()
    today = datetime.now(UTC).date()
    apps, undecided = await planning.plan_apps(inventory.apps, inventory, controller._judge, today, 1.0)
    assert undecided == {("pizza", "kitchen")}
    await controller._enforce([*apps.values()], set(), undecided)
    assert present(server.live, ["kitchen"]) == before


async def test_a_type_that_harms_the_planner_costs_no_other_its_topics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def grants(this: Any, inventory: Any) -> bool:
        while this.metadata.name == "zoo.endless":
            pass
        return grants_of_the_core(this, inventory)

    monkeypatch.setattr(topology, "grants", grants)
    controller = TopologyController(Server(), settings(tmp_path))  # type: ignore[arg-type]
    controller.listed(TYPES, "", [*manifests("EventType"), event_type("zoo.endless")])
    inventory = await controller._inventory()
    result = await controller._channels(inventory)
    assert "EventType zoo.endless cannot be planned" in caplog.text
    assert result == {*WHOLE.channels["pubsub"]} - {"zoo.endless.v1"} & result
    assert "orders.orderConfirmed.v1" in result


async def test_an_unexpected_error_is_logged_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise KeyError("nats://user:secret@nats:4222")

    monkeypatch.setattr(topology, "AGAIN", 0.01)
    monkeypatch.setattr(watch, "ensure_streams", broken)
    server = Server()
    controller = TopologyController(server, settings(tmp_path, nats_url="nats://user:secret@nats:4222"))  # type: ignore[arg-type]
    controller.listed(TYPES, "", manifests("EventType"))
    controller.listed(SUBSCRIPTIONS, "", manifests("EventSubscription"))
    keeping = asyncio.create_task(controller._keep())
    await until(lambda: caplog.text.count("KeyError") > 1, "it is tried again")
    assert "secret" not in caplog.text
    keeping.cancel()


@pytest.mark.real
async def test_a_topic_that_jetstream_does_not_take_costs_no_other_its_stream_and_rights(tmp_path: Path) -> None:
    with Ports() as ports, nats_server(tmp_path, ports.take()) as url:
        client = await nats.connect(url)
        await client.jetstream().add_stream(name="SOMEBODY-ELSES", subjects=["aaa.>"])
        server, chosen = Server(), settings(tmp_path, nats_url=url)
        controller = TopologyController(server, chosen)  # type: ignore[arg-type]
        hostile = [
            event_type("zoo.taken", channel={"topic": "aaa.taken"}),
            event_type("zoo.underscored", channel={"topic": "zoo_taken"}),
            event_type("zoo.inbox", channel={"topic": "_INBOX.x"}),
        ]
        controller.listed(TYPES, "", [*hostile, *manifests("EventType")])
        controller.listed(SUBSCRIPTIONS, "", [*manifests("EventSubscription"), NEWCOMER])
        keeping = asyncio.create_task(controller._keep())
        await until(chosen.ready.exists, "it is ready")
        assert "fraud" in server.live["scopes"]
        made = {item.config.name for item in await client.jetstream().streams_info()}
        assert {stream_name(topic) for topic in controller._topics - {"aaa.taken"}} <= made
        assert {"orders.orderConfirmed.v1", "deadletter.fraud", "zoo_taken"} <= controller._topics
        assert controller._broker
        looked = await controller._broker.look()
        assert looked.lost == (), "what never was there makes no sidecar subscribe anew"
        await client.jetstream().delete_stream(stream_name("orders.orderConfirmed.v1"))
        before = METRICS.get_sample_value("tidings_broker_losses_total") or 0
        await controller._look(controller._broker)
        await controller._look(controller._broker)
        assert METRICS.get_sample_value("tidings_broker_losses_total") == before + 1
        keeping.cancel()
        await client.close()


def test_no_two_topics_share_a_stream() -> None:
    topics = ["a.b", "a_b", "a-b", "a_.b", "a._b", "a.b_c", "a_b.c", "_a", "a_", "a__b"]
    assert len({stream_name(topic) for topic in topics}) == len(topics)
    for topic in ("a.", ".a", "a..b", "a*", "a.>", "a b", "a/b", "a\n", ""):
        with pytest.raises(ValueError, match="is no topic"):
            stream_name(topic)
