"""Tenants' input on a real API server: each object gets a verdict, and takes nothing from others.

The strategies and the corpus are those of tests/unit/test_plan_hostile.py, which tries many more. Here, the API server
decides what it takes, the operator judges within its bounds on CPU time, and what stands in the cluster is looked at.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from functools import partial
from typing import Any

import pytest
from hypothesis import strategies as st
from tests.operator import shop
from tests.operator.cluster import ADMIN, Cluster, path_of
from tests.operator.conftest import Start, until
from tests.operator.test_operator_fuzz import examples
from tests.support import hostile
from tests.unit.test_plan_hostile import TODAY, hold
from tests.unit.test_plan_rights import OURS, PAID

from tidings_operator.children import SUBSCRIPTIONS
from tidings_plan import plan

pytestmark = pytest.mark.real
DRAWN, MUTATED = 60, 30


def placed(documents: list[hostile.Document], namespace: str) -> list[hostile.Document]:
    """Give each a name, and each app of the corpus a name, of its own: one object's verdict is not another's."""
    result = []
    for number, item in enumerate(documents):
        text = json.dumps(item).replace('"appId": "evil"', f'"appId": "evil{number}"')
        copy = json.loads(text)
        if isinstance(copy.get("metadata"), dict):
            copy["metadata"] = {"name": f"s{number}", "namespace": namespace}
        result.append(copy)
    return result


def taken(cluster: Cluster, document: hostile.Document) -> bool:
    """Create an object; return whether the API server takes it."""
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
    path = path_of(document).rpartition("/")[0]
    answer = cluster.http.post(path, content=json.dumps(document).encode(), headers=headers)
    assert answer.status_code in (201, 400, 409, 413, 422, 500), answer.text
    return bool(answer.is_success)


def is_sent(document: Any) -> bool:
    """Return whether an object is of a kind, and so has an address."""
    return (
        isinstance(document.get("metadata"), dict)
        and document.get("kind") in hostile.SCHEMAS
        and (document.get("apiVersion") == hostile.GROUP)
    )


def _ready(cluster: Cluster, document: hostile.Document) -> dict[str, Any] | None:
    return shop.conditions(cluster, document).get("Ready")


@pytest.mark.timeout(900)
async def test_any_tenant_input_gets_a_verdict_and_takes_no_foreign_channel(
    cluster: Cluster, namespace: str, operator: Start
) -> None:
    own = [{**item, "metadata": {**item["metadata"], "namespace": namespace}} for item in OURS]
    for entry in own:
        entry["metadata"].pop("creationTimestamp", None)
        cluster.apply(entry)
    drawn = examples(st.lists(hostile.resources(), min_size=1, max_size=1).map(lambda item: item[0]), DRAWN)
    broken = examples(hostile.mutated(), MUTATED)
    written = placed([*hostile.CORPUS.values(), *drawn, *broken], namespace)
    kept = [item for item in filter(is_sent, written) if await asyncio.to_thread(taken, cluster, item)]
    kinds = Counter(item["kind"] for item in kept)
    assert kinds["EventSubscription"] > 20, kinds
    assert kinds["EventType"] > 20, kinds

    made = await operator()
    verdicts: dict[str, str] = {}
    for entry in (*own, *kept):
        ready = await until(partial(_ready, cluster, entry), f"a verdict: {entry}", 120)
        verdicts[f"{entry['kind']}/{entry['metadata']['name']}"] = ready["reason"]
    await until(lambda: made.queue.idle, "all is done", 120)
    assert made.dead() == made.unready() == ""
    assert "NotJudged" not in verdicts.values(), {name for name, why in verdicts.items() if why == "NotJudged"}

    known = made.cache.inventory
    result = plan(known, TODAY)
    hold(known, result)
    refused = {finding.resource.rpartition("/")[2] for finding in result.findings if finding.severity == "error"}
    children = (*shop.dapr_subscriptions(cluster, namespace).values(), *shop.resiliencies(cluster, namespace).values())
    programmed = {name for child in children for name in child["metadata"]["annotations"][SUBSCRIPTIONS].split(",")}
    assert not programmed & refused
    readers = {
        dapr_subscription["metadata"]["labels"]["tidings.dev/app"]
        for dapr_subscription in shop.dapr_subscriptions(cluster, namespace).values()
        if dapr_subscription["spec"]["topic"].lower() == PAID.lower()
    }
    assert readers <= {
        subscription.spec.consumer.app_id
        for subscription in known.subscriptions.values()
        if subscription.ref not in refused
    }
    for entry in own:
        assert shop.conditions(cluster, entry)["Ready"]["status"] == "True", entry
