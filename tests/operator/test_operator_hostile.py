"""Objects that a tenant writes to do harm: the operator keeps running and reconciles everybody else's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.operator import shop
from tests.operator.cluster import ADMIN, Cluster, path_of
from tests.operator.conftest import Start, until

from tidings_operator import reading

pytestmark = pytest.mark.real
DEEPEST_KEPT = 9_000
"""Levels that the API server keeps: it gives up at 10,000."""
HOSTILE: dict[str, tuple[str, str]] = {
    # A schema as JSON text (Python could not write the deep ones), and what the object is told.
    "maps 9,000 deep": ('{"x":' * DEEPEST_KEPT + "1" + "}" * DEEPEST_KEPT, "levels deep"),
    "lists 9,000 deep": ('{"enum":' + "[" * DEEPEST_KEPT + "]" * DEEPEST_KEPT + "}", "levels deep"),
    "schemas 500 deep": ('{"not":' * 500 + "{}" + "}" * 500, "levels deep"),
    "brackets in texts": ('{"type":"object","description":"' + '[{\\"' * 5_000 + '"}', ""),
    "1 MB": ('{"type":"object","description":"' + "x" * 1_000_000 + '"}', "bytes"),
    "40,000 properties": (
        '{"type":"object","properties":{' + ",".join(f'"p{n}":{{"type":"string"}}' for n in range(40_000)) + "}}",
        "bytes",
    ),
    "an integer of 300 digits": ('{"type":"object","const":' + "9" * 300 + "}", ""),
    "a NUL": ('{"type":"object","description":"\\u0000\\ud800"}', ""),
}


async def write(cluster: Cluster, namespace: str, name: str, schema: str) -> dict[str, Any]:
    """Create an EventType with a schema that is written as it is."""
    kind = shop.event_type(namespace, f"evil.{name}", versions=[{"name": "v1", "schema": "SCHEMA"}])
    text = str(await asyncio.to_thread(_posted, cluster, kind, schema))
    assert text == "201", text
    return kind


def _posted(cluster: Cluster, kind: dict[str, Any], schema: str) -> str:
    body = json.dumps(kind).replace('"SCHEMA"', schema)
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
    answer = cluster.http.post(path_of(kind).rpartition("/")[0], content=body.encode(), headers=headers)
    return str(answer.status_code) if answer.is_success else answer.text


def conditions(cluster: Cluster, resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the conditions of an object that Python's own JSON reader may not be able to read."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    existing = reading.decode(cluster.http.get(path_of(resource), headers=headers).content)
    return {condition["type"]: condition for condition in (existing.get("status") or {}).get("conditions") or ()}


@pytest.mark.parametrize("name", [*HOSTILE])
@pytest.mark.parametrize("when", ["before it starts", "while it runs"])
async def test_an_object_that_is_hard_to_read_ends_nothing(
    cluster: Cluster, namespace: str, operator: Start, name: str, when: str
) -> None:
    schema, output = HOSTILE[name]
    cluster.apply(shop.event_type(namespace))
    running = await operator() if when == "while it runs" else None
    evil = await write(cluster, namespace, "evilDone", schema)
    running = running or await operator()
    good = cluster.apply(shop.subscription(namespace))
    await until(
        lambda: shop.conditions(cluster, good).get("Ready", {}).get("status") == "True", "good ones are programmed"
    )

    condition = await until(lambda: conditions(cluster, evil).get("Ready"), "it is told")
    assert output in condition["message"]
    if output:
        assert (condition["status"], condition["reason"]) == ("False", "Unreadable")
    # It may be mended, and it may be deleted.
    fixed = await asyncio.to_thread(cluster.patch, path_of(evil), {"spec": {"versions": [{"name": "v1"}]}})
    await until(lambda: shop.conditions(cluster, fixed).get("Ready", {}).get("status") == "True", "it is mended")
    await asyncio.to_thread(cluster.delete, path_of(evil))
    await until(lambda: ("EventType", namespace, evil["metadata"]["name"]) not in running.cache.objects, "it is gone")
