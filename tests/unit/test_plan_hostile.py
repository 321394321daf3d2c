"""Whatever the CRDs let through, and what they do not: each object gets a verdict, and nobody a right that is not his.

TIDINGS_HOSTILE=100000 tries that many sets of objects; a short run tries a few.
"""

import os
from copy import deepcopy
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.test_plan import Document, event_type, subscription
from tests.unit.test_plan_rights import OURS, PAID, PLACED, rights

from tidings.plan import plan
from tidings.resources import Inventory, parse_resource
from tidings_operator.crds import definitions

TODAY = date(2026, 11, 29)
TRIES = int(os.environ.get("TIDINGS_HOSTILE", "60"))
SPECS = {
    each["spec"]["names"]["kind"]: each["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for each in definitions()
}
TEXTS = st.sampled_from(
    [
        "",
        "*",
        "orders.*",
        "deadletter.*",
        "deadletter.payments",
        "replay.payments",
        PAID,
        PAID.upper(),
        "old-things",
        "a,b;c=d",
        "a\nb",
        "\x00",
        "�",
        "x" * 5000,
        "v1",
        "v99999999999",
        "9" * 400 + "s",
        "0s",
        "1h",
        "/x",
        "//",
        "evil",
        "payments",
        "far",
        "default",
        "2027-06-31",
        "2026-01-01",
        "{type}.v{version}",
        "{version}",
        "event.a ===",
        "true",
        "[1].all(x, [1].all(y, true))",
        "event.data.x == 1e309",
        "tidings.x",
        "archive.x",
        "xoutbox",
    ]
)
NUMBERS = st.sampled_from([0, -1, 1, 5, 2**31 - 1, 2**63, 10**400, 0.5, -0.0, 1e-300, 1e308])
ANYTHING = st.recursive(
    TEXTS | NUMBERS | st.none() | st.booleans() | st.sampled_from([float("nan"), float("inf")]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=6,
)


def of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Draw what a structural schema describes, with hostile values at its leaves."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("type") == "object" and "properties" in schema:
        fields = {name: of(each) for name, each in schema["properties"].items()}
        needed = {name: each for name, each in fields.items() if name in schema.get("required", ())}
        return st.fixed_dictionaries(needed, optional={name: fields[name] for name in fields.keys() - needed.keys()})
    if schema.get("type") == "array":
        return st.lists(of(schema["items"]), min_size=schema.get("minItems", 0), max_size=2)
    leaves = {"string": TEXTS, "boolean": st.booleans(), "integer": NUMBERS, "number": NUMBERS}
    return leaves.get(schema.get("type", ""), ANYTHING)


@st.composite
def mutated(draw: st.DrawFn) -> Document:
    """Draw a good object of `evil` with one to three fields replaced by what the schema, or nothing, describes."""
    base = deepcopy(
        draw(st.sampled_from([subscription("x", "evil", **PLACED), event_type("zoo.animalFed", producers=["evil"])]))
    )
    base["metadata"]["namespace"] = draw(st.sampled_from(["default", "far"]))
    fields = SPECS[base["kind"]]["properties"]
    for name in draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3, unique=True)):
        base["spec"][name] = draw(of(fields[name]) | ANYTHING)
    if draw(st.integers(0, 9)) == 0:
        base[draw(st.sampled_from(["metadata", "kind", "apiVersion", "spec"]))] = draw(ANYTHING)
    return base


@pytest.mark.timeout(0)
@settings(max_examples=TRIES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(mutated(), min_size=1, max_size=4))
def test_every_object_gets_a_verdict_and_no_right_that_is_not_its_own(documents: list[Document]) -> None:
    known = Inventory()
    for document in [*OURS, *documents]:
        resource, findings = parse_resource(document)
        if resource:
            known.put(resource)
        elif document.get("apiVersion") == "tidings.dev/v1alpha1":
            assert any(each.severity == "error" for each in findings)
    found = plan(known, TODAY)
    refused = {each.resource for each in found.findings if each.severity == "error"}
    for app in found.apps.values():
        programmed = {
            known.subscriptions[app.namespace, each["name"]].ref for each in app.policy.get("subscriptions", ())
        }
        assert not programmed & refused
    own = known.type(("default", "payments.paymentAuthorised"))
    assert own
    assert rights(found, "payments") >= {PAID, "deadletter.payments"}
    for name in found.apps.keys() - {"payments", "far/payments"}:
        if "evil" in name:
            assert not {each.lower() for each in rights(found, name)} & {
                PAID.lower(),
                "deadletter.payments",
                "old-things",
            }
    for scopes in found.scopes.values():
        for entry in scopes.publishing.split(";"):
            name, _, topics = entry.partition("=")
            assert name.replace("-", "").isalnum()
            assert all(
                topic == "" or set(topic) <= set("-._") | set(map(chr, range(48, 123))) for topic in topics.split(",")
            )
