"""What tenants may write, on a real API server: each object gets a verdict, and takes nothing that is another one's.

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
    found = []
    for number, each in enumerate(documents):
        text = json.dumps(each).replace('"appId": "evil"', f'"appId": "evil{number}"')
        copy = json.loads(text)
        if isinstance(copy.get("metadata"), dict):
            copy["metadata"] = {"name": f"s{number}", "namespace": namespace}
        found.append(copy)
    return found


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
async def test_whatever_a_tenant_writes_gets_a_verdict_and_takes_nothing_that_is_anothers(
    cluster: Cluster, namespace: str, operator: Start
) -> None:
    ours = [{**each, "metadata": {**each["metadata"], "namespace": namespace}} for each in OURS]
    for each in ours:
        each["metadata"].pop("creationTimestamp", None)
        cluster.apply(each)
    drawn = examples(st.lists(hostile.resources(), min_size=1, max_size=1).map(lambda each: each[0]), DRAWN)
    broken = examples(hostile.mutated(), MUTATED)
    written = placed([*hostile.CORPUS.values(), *drawn, *broken], namespace)
    kept = [each for each in filter(is_sent, written) if await asyncio.to_thread(taken, cluster, each)]
    kinds = Counter(each["kind"] for each in kept)
    assert kinds["EventSubscription"] > 20, kinds
    assert kinds["EventType"] > 20, kinds

    made = await operator()
    verdicts: dict[str, str] = {}
    for each in (*ours, *kept):
        ready = await until(partial(_ready, cluster, each), f"a verdict: {each}", 120)
        verdicts[f"{each['kind']}/{each['metadata']['name']}"] = ready["reason"]
    await until(lambda: made.queue.idle, "all is done", 120)
    assert made.dead() == made.unready() == ""
    assert "NotJudged" not in verdicts.values(), {name for name, why in verdicts.items() if why == "NotJudged"}

    known = made.cache.inventory
    found = plan(known, TODAY)
    hold(known, found)
    refused = {each.resource.rpartition("/")[2] for each in found.findings if each.severity == "error"}
    children = (*shop.dapr_subscriptions(cluster, namespace).values(), *shop.resiliencies(cluster, namespace).values())
    programmed = {name for each in children for name in each["metadata"]["annotations"][SUBSCRIPTIONS].split(",")}
    assert not programmed & refused
    readers = {
        each["metadata"]["labels"]["tidings.dev/app"]
        for each in shop.dapr_subscriptions(cluster, namespace).values()
        if each["spec"]["topic"].lower() == PAID.lower()
    }
    assert readers <= {each.spec.consumer.app_id for each in known.subscriptions.values() if each.ref not in refused}
    for each in ours:
        assert shop.conditions(cluster, each)["Ready"]["status"] == "True", each
