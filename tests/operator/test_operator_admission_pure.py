"""Evaluation of changes without an API server: cases that the webhooks' own tests cannot cause quickly."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from tests.operator import shop

from tidings_operator import admission
from tidings_operator.admission import Request, Verdict
from tidings_operator.cache import Cache
from tidings_operator.certificates import MountedCertificates
from tidings_operator.client import Client
from tidings_operator.judging import Judge
from tidings_operator.webhooks import Webhooks
from tidings_plan import plan
from tidings_plan.resources import Inventory, parse_resource

TODAY = date(2026, 11, 23)
NOW = "2026-11-23T12:00:00Z"


def inventory(*resources: dict[str, Any]) -> Inventory:
    return Inventory([parsed(resource) for resource in resources])


def parsed(resource: dict[str, Any]) -> Any:
    result, findings = parse_resource(resource)
    assert result, findings
    return result


def request(operation: str, new: dict[str, Any] | None, old: dict[str, Any] | None = None, **how: Any) -> Request:
    body = new or old or {}
    return Request(
        uid="1",
        kind=admission.GroupVersionKind(body["kind"]),
        operation=operation,  # type: ignore[arg-type]
        namespace=body["metadata"]["namespace"],
        name=body["metadata"].get("name", ""),
        object=new,
        old_object=old,
        **how,
    )


def judged(known: Inventory, asked: Request) -> Verdict:
    return admission.judge(admission.read(asked, NOW), known, TODAY)


def aged(resource: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {**resource, "metadata": {**resource["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z", **metadata}}


RESOURCES = st.sampled_from(
    [
        shop.event_type("x"),
        shop.event_type("x", "orders.orderPaid"),
        shop.subscription("x"),
        shop.subscription("x", filters=[{"exact": {"data.a": 1}}]),
        shop.subscription("x", "paid", type="orders.orderPaid"),
        shop.subscription("x", "all", pattern="*", versions=[], consumer={"appId": "archive"}),
        shop.replay("x"),
    ]
)


PARTS = {"EventType": "types", "EventSubscription": "subscriptions", "EventReplay": "replays"}


@given(st.lists(RESOURCES), st.lists(st.tuples(RESOURCES, st.booleans())), st.booleans())
def test_what_is_supposed_leaves_no_trace(known: list[Any], supposed: list[tuple[Any, bool]], fails: bool):
    existing = inventory(*known)
    before, objects = plan(existing, TODAY), {id(subscription) for subscription in existing.subscriptions.values()}
    parts = [(item.kind, item.key, item if exists else None) for item, exists in ((parsed(r), e) for r, e in supposed)]
    last = {(kind, key): resource for kind, key, resource in parts}
    with suppress(KeyError), admission.supposing(existing, parts):
        for (kind, key), resource in last.items():
            assert getattr(existing, PARTS[kind]).get(key) is resource
        if fails:
            raise KeyError
    assert plan(existing, TODAY) == before
    assert {id(subscription) for subscription in existing.subscriptions.values()} == objects


def test_what_is_on_its_way_out_is_let_go():
    """A finalizer's last update must pass, whatever is wrong with the object."""
    wrong = aged(shop.subscription("x", filters=[{"cel": "("}]), deletionTimestamp=NOW, finalizers=["a/b"])
    bare = {**wrong, "metadata": {**wrong["metadata"], "finalizers": []}}
    assert judged(inventory(), request("UPDATE", bare, wrong)) == Verdict()
    kind = aged(shop.event_type("x"), deletionTimestamp=NOW)
    assert judged(inventory(shop.event_type("x"), shop.subscription("x")), request("UPDATE", kind, kind)) == Verdict()


def test_an_event_type_that_is_not_used_is_nobodys():
    """Of two that claim a name the older one holds: the other may go, the older one only hands over."""
    first, second = aged(shop.event_type("x")), shop.event_type("x")
    second = aged(second, name="second", creationTimestamp="2026-02-01T00:00:00Z")
    known = inventory(first, second, shop.subscription("x"))
    assert not judged(known, request("DELETE", None, second)).errors
    assert not judged(known, request("DELETE", None, first)).errors, "the second is there to be read"
    assert judged(inventory(first, shop.subscription("x")), request("DELETE", None, first)).errors


def test_each_object_of_a_collection_is_found_though_the_request_has_no_name():
    """`kubectl delete eventtypes --all`, and each request of the API server for one object of it."""
    kind = aged(shop.event_type("x"))
    known = inventory(kind, aged(shop.subscription("x")))
    asked = msgspec.structs.replace(request("DELETE", None, kind), name="")
    (error,) = judged(known, asked).errors
    assert error.rule == "type-removed"


def test_the_new_one_is_the_younger_one():
    """Before it is created it has no age: it must not push out who is there."""
    new = shop.subscription("x", "a-first-by-name")
    new["metadata"]["creationTimestamp"] = None
    verdict = judged(inventory(shop.event_type("x"), aged(shop.subscription("x"))), request("CREATE", new))
    assert [error.rule for error in verdict.errors] == ["duplicate-subscription"]
    assert verdict.errors[0].resource == "EventSubscription/x/a-first-by-name"


def test_a_generated_name_is_no_mistake():
    new = shop.subscription("x")
    new["metadata"] = {"namespace": "x", "generateName": "kitchen-"}
    assert not judged(inventory(shop.event_type("x")), request("CREATE", new)).errors


@pytest.mark.parametrize(
    ("kind", "operation", "spec", "filled"),
    [
        ("EventType", "CREATE", {"type": "orders.orderPaid"}, {"domain": "orders"}),
        ("EventType", "UPDATE", {"type": "orders.orderPaid", "domain": ""}, {"domain": "orders"}),
        ("EventType", "CREATE", {"type": "orders.orderPaid", "domain": "sales"}, {}),
        ("EventType", "CREATE", {"type": "orders"}, {}),
        ("EventType", "CREATE", {}, {}),
        ("EventReplay", "CREATE", {}, {"requestedBy": "ada"}),
        ("EventReplay", "CREATE", {"requestedBy": "bob"}, {"requestedBy": "ada"}),
        ("EventReplay", "UPDATE", {}, {}),
        ("EventSubscription", "CREATE", {}, {}),
    ],
)
def test_defaults(kind: str, operation: Any, spec: dict[str, Any], filled: dict[str, str]):
    assert admission.defaults(kind, operation, spec, "ada") == filled


REACHING = {"target": {"subscription": "kitchen-order-confirmed", "namespace": "pizza"}}


@pytest.mark.parametrize(
    ("allowed", "rules"),
    [("", ["replay-namespace"]), ("other", ["replay-namespace"]), ("other, evil", []), (None, ["replay-namespace"])],
)
def test_a_replay_reaches_another_namespace_only_where_that_allows_it(allowed: str | None, rules: list[str]):
    """Nor does the response disclose whether the target exists (None: it does not)."""
    target = shop.subscription("pizza")
    target["metadata"]["annotations"] = {"tidings.dev/replays-from": allowed or ""}
    known = inventory(shop.event_type("pizza"), *([] if allowed is None else [target]))
    verdict = judged(known, request("CREATE", shop.replay("evil", "borrowed", **REACHING)))
    assert [error.rule for error in verdict.errors] == rules


def test_who_asked_for_a_replay_never_changes():
    known = inventory(shop.event_type("pizza"), shop.subscription("pizza"))
    before, after = shop.replay("pizza", "r", requestedBy="ada"), shop.replay("pizza", "r", requestedBy="bob")
    assert [error.rule for error in judged(known, request("UPDATE", after, before)).errors] == ["replay-requested-by"]
    assert not judged(known, request("UPDATE", before, before)).errors


@pytest.mark.parametrize("body", [b"", b"{}", b'{"apiVersion": "v1", "kind": "X", "request": {"uid": 1}}', b"\xff"])
async def test_what_is_no_review_is_refused(body: bytes):
    async with TestClient(TestServer(_webhooks(()).application())) as client:
        for path in ("/validate", "/default"):
            answer = await client.post(path, data=body)
            assert answer.status == 400
            assert "AdmissionReview" in await answer.text()


async def test_what_is_not_looked_after_is_not_judged():
    wrong = shop.subscription("elsewhere", filters=[{"cel": "("}])
    assert await _webhooks(("here",)).validate(request("CREATE", wrong)) == {"allowed": True}
    assert not (await _webhooks(()).validate(request("CREATE", {**wrong, "spec": {}})))["allowed"]


async def test_a_review_does_not_wait_for_those_that_take_long(tmp_path: Path):
    gate, judge = tmp_path / "open", Judge(niceness=0)

    def wait_for_gate() -> None:
        while not gate.exists():
            time.sleep(0.01)

    slow = [asyncio.create_task(judge(wait_for_gate)) for _ in range(20)]
    await asyncio.sleep(0.1)
    wrong = {**shop.subscription("here"), "spec": {}}
    answer = await asyncio.wait_for(_webhooks(("here",), judge).validate(request("CREATE", wrong)), 60)
    assert not answer["allowed"]
    assert not any(task.done() for task in slow)
    gate.touch()
    await asyncio.gather(*slow)


def _webhooks(namespaces: tuple[str, ...], judge: Judge | None = None) -> Webhooks:
    def no_user() -> Any:
        raise AssertionError("nobody is asked")

    plain, judge = MountedCertificates("", ""), judge or Judge()
    return Webhooks(Cache(lambda _: None), Client(no_user), plain, judge, namespaces=namespaces, unready=str)
