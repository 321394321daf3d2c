"""A real daprd runs on the output of any valid spec; an invalid one has no output."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.integration.test_plan_on_daprd import APP, COMPONENT, daprd, loaded, running_app, sidecar, specs
from tests.operator import shop
from tests.operator.cluster import Cluster
from tests.operator.conftest import Start, until

__all__ = ["daprd"]
pytestmark = pytest.mark.real
T = TypeVar("T")
VALID, INVALID = 40, 20
wrong_cel = st.sampled_from(
    [
        "event.data.total >",
        "event.",
        "size(",
        "'a' + 1",
        "other.field == 1",
        "event.data.total",
        "1 +",
        "(",
        "event ? 1",
    ]
)
wrong = (
    st.builds(lambda cel: {"filters": [{"cel": cel}]}, wrong_cel)
    | st.builds(lambda cel: {"routes": {"rules": [{"match": cel, "path": "/x"}]}}, wrong_cel)
    | st.builds(lambda name: {"versions": [name]}, st.sampled_from(["v2", "v77"]))
    | st.builds(lambda name: {"type": name}, st.sampled_from(["no.such", "fuzz.e0seen"]))
)


def examples(strategy: st.SearchStrategy[T], count: int) -> list[T]:
    """Draw new specs in each run; a failure prints them."""
    drawn: list[T] = []

    @settings(max_examples=1, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(st.lists(strategy, min_size=count, max_size=count))
    def draw(actual: list[T]) -> None:
        drawn[:] = actual

    draw()
    return drawn


def crowd(namespace: str, valid: list[dict[str, Any]], invalid: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one subscription for each spec, each with a type of its own, all of one app."""
    result = []
    for kind, drawn in (("e", valid), ("w", invalid)):
        for place, spec in enumerate(drawn):
            name = f"fuzz.{kind}{place}Seen"
            result.append(shop.event_type(namespace, name))
            whole = {"type": name, "consumer": {"appId": APP}, **spec}
            result.append(shop.subscription(namespace, f"{kind}{place}", **whole))
    return result


async def test_a_sidecar_accepts_every_programmed_resource(
    cluster: Cluster, namespace: str, operator: Start, daprd: Path, tmp_path: Path
) -> None:
    valid, invalid = examples(specs, VALID), examples(wrong, INVALID)
    applied = [cluster.apply(item) for item in crowd(namespace, valid, invalid)]
    manifests = [item for item in applied if item["kind"] == "EventSubscription"]
    made = await operator()
    output = {}
    for entry in manifests:
        output[entry["metadata"]["name"]] = await until(partial(shop.conditions, cluster, entry), "it has a status", 60)
    await until(lambda: made.queue.idle, "all is done", 60)

    refused = {name for name, conditions in output.items() if conditions["Ready"]["status"] == "False"}
    assert refused == {f"w{place}" for place in range(INVALID)}, [output[name]["Ready"] for name in sorted(refused)]
    routes = shop.dapr_subscriptions(cluster, namespace)
    declared = {route["spec"]["topic"] for route in routes.values()}
    assert declared == {f"fuzz.e{place}Seen.v1" for place in range(VALID)} | {f"replay.{APP}"}

    folder = tmp_path / "resources"
    folder.mkdir()
    for entry in (COMPONENT, *routes.values(), *shop.resiliencies(cluster, namespace).values()):
        bare = {**entry, "metadata": {"name": entry["metadata"]["name"]}}  # as for a sidecar outside the cluster
        (folder / f"{entry['kind']}-{entry['metadata']['name']}.yaml").write_text(yaml.safe_dump(bare))
    with running_app() as app, sidecar(daprd, folder, app.port) as client:
        assert loaded(client, declared).keys() == declared
    assert "Could not read" not in (tmp_path / "resources.log").read_text(), "the Resiliency was refused"
