"""Every leaf of the CRDs has an enforcer, a rendering, a place in the status, and a test that exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from docs.reference.fields import FIELDS, Field
from tests.unit.test_plan import event_type, planned, subscription

from tidings_operator.crds import definitions
from tidings_plan.enforcement import Enforcer

TESTS = Path(__file__).parents[1]
DEFINITIONS = {definition["spec"]["names"]["kind"]: definition["spec"]["versions"][0] for definition in definitions()}


def leaves(kind: str) -> Iterator[tuple[str, Field]]:
    """Yield every leaf of a kind's spec with its entry."""
    for field in FIELDS[kind]:
        before, brace, rest = field.path.partition("{")
        names, _, after = rest.partition("}")
        for name in names.split(",") if brace else [""]:
            yield f"{before}{name}{after}", field


def declared(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the leaves of a CRD's spec; filters within filters are those of the first level again."""
    properties = schema.get("properties")
    if properties is None and "items" not in schema:
        yield path
    elif properties is None:
        yield from declared(schema["items"], f"{path}[]")
    else:
        for name, below in properties.items():
            recurs = {"all", "any", "not"} & {name} and "exact" in properties
            yield from [f"{path}.{name}"] if recurs else declared(below, f"{path}.{name}".lstrip("."))


@pytest.mark.parametrize("kind", FIELDS)
def test_every_leaf_has_an_entry(kind: str) -> None:
    spec = DEFINITIONS[kind]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    entries = [path for path, _ in leaves(kind)]
    assert sorted(entries) == sorted(declared(spec))


@pytest.mark.parametrize("kind", FIELDS)
def test_every_entry_names_a_test_and_a_status_that_exist(kind: str) -> None:
    status = set(DEFINITIONS[kind]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"])
    sources = "".join(path.read_text() for path in (TESTS.parent / "operator/src/tidings_operator").glob("*.py"))
    for field in FIELDS[kind]:
        file, _, name = field.test.partition("::")
        assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE), field
        for place in filter(None, field.status.split(", ")):
            assert place in status or f'"{place}"' in sources, field


@pytest.mark.parametrize("kit", [True, False])
def test_the_plan_reports_the_enforcers_of_the_registry(kit: bool) -> None:
    spec: dict[str, Any] = {
        "filters": [{"exact": {"data.a": "1"}}],
        "routes": {"default": "/x"},
        "delivery": {"circuitBreaker": {}},
        "maxConcurrency": 2,
        "rateLimit": {"eventsPerSecond": 50},
        "ordering": {"mode": "Key"},
        "bulk": {},
        "startFrom": "Latest",
        "suspend": True,
        "enforcement": "BestEffort",
    }
    reported = planned(event_type(), subscription(kit=kit, **spec)).apps["kitchen"].enforcement["one"]
    entries = dict(leaves("EventSubscription"))
    for field, enforcer in reported.items():
        [*known] = {
            entry.enforcer for path, entry in entries.items() if re.sub(r"^events\[\]\.", "", path).startswith(field)
        }
        assert enforcer == "none" or any({"kit": "SDK"}.get(enforcer, enforcer) in item for item in known), field
    assert set(get_args(Enforcer)) == {"daprd", "kit", "broker", "none"}
