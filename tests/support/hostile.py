"""Resources that no reasonable person writes: drawn from the CRDs' own schemas, mutated, and collected from attacks.

`resources()` draws what the API server takes: every pattern, bound and rule of the schema holds, with values at the
bounds and hostile texts where the schema lets any text by. `mutated()` breaks some of that. `CORPUS` is what has done
harm somewhere, or would have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st
from tests.support.contracts import one_event

from tidings_operator.crds import definitions

Document = dict[str, Any]
GROUP = "tidings.dev/v1alpha1"
NAMESPACES = ("default", "far")
PAID = "payments.paymentAuthorised.v1"
SCHEMAS: Mapping[str, Any] = {
    definition["spec"]["names"]["kind"]: definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][
        "spec"
    ]
    for definition in definitions()
}

# -- texts and values -------------------------------------------------------------------------------------------------

TOPICS = (
    PAID,
    PAID.upper(),
    PAID.replace(".", "_"),
    "old-things",
    "Old-Things",
    "own-things",
    "deadletter.payments",
    "deadletter.evil",
    "deadletter.evil.slow",
    "deadletter_payments",
    "replay.payments",
    "replay.evil",
    "retry.payments",
    "tidings.consume.delayed",
    "archive.replayEvents.v1",
    "x.outbox",
    "xoutbox",
    "orders.orderPlaced.v1",
    "zoo.animalFed.v1",
)
TYPES = (
    "payments.paymentAuthorised",
    "Payments.paymentAuthorised",
    "orders.orderPlaced",
    "zoo.animalFed",
    "zoo.feedAnimal",
    "archive.replayEvents",
    "tidings.x",
    "deadletter.payments",
    "replay.x",
    "far.thing",
)
READ = (*TYPES, "*", "orders.*", "payments.*", "deadletter.*", "deadletter.evil")
APPS = ("evil", "payments", "archive", "orders", "zoo")
CEL = (
    "true",
    "event.data.total > 10.0",
    "event.type == 'a'",
    ".event.type == 'a'",
    "event.data.x == 1e309",
    "event.data[null] == 1",
    "event.data.boxes + 1 == 4",
    "event.a ===",
    "size(event.data.x) > 1",
    "event.data.a && " * 90 + "true",
    "(" * 200 + "true" + ")" * 200,
    "[1,2,3].all(x, [1,2,3].all(y, [1,2,3].all(z, x + y + z > 0)))",
    "event.data.a.matches('(a+)+$')",
    "'" + "x" * 3_900 + "' == event.id",
    "event.data.x in [" + "1," * 900 + "1]",
    "event.data." + "a." * 800 + "b == 1",
    "!" * 900 + "true",
    "-" * 500 + "1 == 1",
    "event.id == '\\u0000'",
    "type(event) == type(1)",
    "event.data.map(x, x).map(x, x).map(x, x).size() > 0",
    "1 / 0 == 1",
    "event.data.a ? true : 1",
    "event",
)
JSON_SCHEMAS: tuple[Any, ...] = (
    {"type": "object"},
    {},
    {"type": "objekt"},
    {"$ref": "#"},
    {"$ref": "http://127.0.0.1:1/x"},
    {"$ref": "file:///etc/passwd"},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {"required": True},
    {"allOf": [{"maximum": 1}, {"maximum": 2}]},
    {"pattern": "(a+)+$"},
    {"pattern": "("},
    {"enum": [1, True, 1.0]},
    {"properties": {"a": {"$ref": "#"}}, "additionalProperties": {"$ref": "#"}},
    {"const": 10**300},
    {"$id": "urn:x", "$ref": "urn:x"},
    {"anyOf": [{"allOf": [{"oneOf": [{"not": {}}] * 3}] * 3}] * 3},
    {"type": []},
    {"items": [{}, False]},
    {"multipleOf": 0},
)
SMALL = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=6,
)
NUMBERS = st.sampled_from([0, -1, 1, 5, 2**31 - 1, 2**63, 10**400, 0.5, -0.0, 1e-300, 1e308])
ANYTHING = (
    st.sampled_from([*TOPICS, *CEL, "", "\x00", "x" * 5_000, "9" * 400 + "s", "a,b;c=d", "a\nb"]) | NUMBERS | SMALL
)
MOMENTS = ("2026-01-01T00:00:00Z", "2026-11-29T08:00:00+14:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00")
DAYS = ("2026-01-01", "2026-12-31", "2027-02-28", "0001-01-01", "9999-12-31")
PLAIN = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60)
POOLS: Mapping[str, tuple[Any, ...]] = {
    "topic": TOPICS,
    "name": READ,
    "type": READ,
    "appId": APPS,
    "cel": CEL,
    "match": CEL,
    "schema": JSON_SCHEMAS,
    "namespace": ("", *NAMESPACES),
    "subscription": ("victim", "s0", "s1"),
    "producers": APPS,
    "namespaces": ("default", "far", "*"),
    "since": MOMENTS,
    "until": MOMENTS,
    "effective": DAYS,
    "removal": DAYS,
    "team": ("zoo", "zoo <zoo@example.org>"),
    "alternative": ("v1", "v2"),
    "accept": ("v1", "v2"),
}
"""By a field's name, values that meet what others have: drawn only where the schema takes them."""


def conforming(schema: Mapping[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Draw what a structural schema takes."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds: Mapping[str, Callable[[Mapping[str, Any], str], st.SearchStrategy[Any]]] = {
        "object": _object,
        "array": _array,
        "string": _string,
        "integer": _number,
        "number": _number,
    }
    kind = schema.get("type", "")
    if kind == "boolean":
        return st.booleans()
    return kinds[kind](schema, name) if kind in kinds else st.sampled_from(POOLS.get(name, (None,))) | SMALL


def _object(schema: Mapping[str, Any], name: str) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        values = schema.get("additionalProperties")
        below = conforming(values, name) if values else SMALL
        keys = st.sampled_from(["data.total", "type", "source", "data.a.b", "x", "data." + "a" * 190])
        return st.dictionaries(keys, below, max_size=min(schema.get("maxProperties", 3), 3))
    if (
        any("exact" in rule["rule"] for rule in schema.get("x-kubernetes-validations", ()))
        or "cel" in schema["properties"]
    ):
        one = [st.fixed_dictionaries({key: conforming(item, key)}) for key, item in schema["properties"].items()]
        return st.one_of(one)  # a filter has exactly one operator
    fields = {key: conforming(item, key) for key, item in schema["properties"].items()}
    needed = {key: item for key, item in fields.items() if key in schema.get("required", ())}
    return st.fixed_dictionaries(needed, optional={key: fields[key] for key in fields.keys() - needed.keys()})


def _array(schema: Mapping[str, Any], name: str) -> st.SearchStrategy[Any]:
    least, most = schema.get("minItems", 0), schema["maxItems"]
    items = conforming(schema["items"], name)
    bounds = {"min_size": least, "max_size": min(most, max(least, 3))}
    if "name" in schema["items"].get("properties", {}):  # versions: two of one name are an error, now and then
        return st.lists(items, unique_by=lambda item: str(item["name"]), **bounds) | st.lists(items, **bounds)
    usual = st.lists(items, **bounds)
    return usual | items.map(lambda item: [item] * most)  # at its bound, now and then


def _string(schema: Mapping[str, Any], name: str) -> st.SearchStrategy[Any]:
    pattern, least, most = (
        re.compile(schema.get("pattern", "")),
        schema.get("minLength", 0),
        schema.get("maxLength", 4_096),
    )

    def fits(text: Any) -> bool:
        return isinstance(text, str) and least <= len(text) <= most and bool(pattern.search(text))

    known = [
        item
        for item in (*POOLS.get(name, ()), "1s", "8h", "10ms", "v1", "v9999", "2026-01-01", "x" * most)
        if fits(item)
    ]
    if name in ("since", "until", "effective", "removal"):
        return st.sampled_from(known)
    free = st.from_regex(pattern, fullmatch=True) if pattern.pattern else PLAIN | PLAIN | st.text(max_size=60)
    return (st.sampled_from(known) if known else st.nothing()) | free.filter(fits)


def _number(schema: Mapping[str, Any], _name: str) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum", -(2**53)), schema.get("maximum", 2**53)
    open_ends = bool(schema.get("exclusiveMinimum"))
    if schema["type"] == "integer":
        return st.sampled_from([low + open_ends, high]) | st.integers(low + open_ends, high)
    usual = [item for item in (0.001, 0.5, 1.0, 25.0) if low <= item <= high]
    anyhow = st.floats(low, high, exclude_min=open_ends, allow_nan=False, allow_infinity=False)
    return (st.sampled_from(usual) if usual else st.nothing()) | anyhow


# -- documents --------------------------------------------------------------------------------------------------------


def document(kind: str, namespace: str, name: str, spec: Any, **metadata: Any) -> Document:
    return {
        "apiVersion": GROUP,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": spec,
    }


@st.composite
def resources(draw: st.DrawFn, *kinds: str) -> Document:
    """Draw a resource that the API server takes, but for rules between its fields."""
    kind = draw(st.sampled_from(kinds or tuple(SCHEMAS)))
    spec = draw(conforming(SCHEMAS[kind]))
    if kind == "EventType":  # a rule of the CRD that no strategy of single fields knows
        spec.pop("domain", None)
        spec["versions"][0].setdefault("state", "Active")
    since = f"202{draw(st.integers(0, 9))}-01-01T00:00:00Z"
    return document(
        kind, draw(st.sampled_from(NAMESPACES)), f"s{draw(st.integers(0, 3))}", spec, creationTimestamp=since
    )


@st.composite
def mutated(draw: st.DrawFn) -> Document:
    """Draw a resource of which something is not what the schema says."""
    result = deepcopy(draw(resources()))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = result if draw(st.integers(0, 9)) == 0 else result["spec"]
        while isinstance(place, (dict, list)) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], (dict, list)) or not place[key] or draw(st.booleans()):
                place[key] = draw(ANYTHING)
                break
            place = place[key]
        if not isinstance(result.get("spec"), dict):
            break
    return result


def _subscription(**spec: Any) -> Document:
    value = {
        "type": "orders.orderPlaced",
        "versions": ["v1"],
        "consumer": {"appId": "evil"},
        **spec,
    }
    return document("EventSubscription", "default", "s0", one_event(value))


def _type(**spec: Any) -> Document:
    value = {
        "type": "zoo.animalFed",
        "owner": {"team": "zoo"},
        "producers": ["evil"],
        "versions": [{"name": "v1", "state": "Active", "schema": {"type": "object"}}],
        **spec,
    }
    return document("EventType", "default", "zoo.animalfed", value)


def _versions(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "v1", "state": "Active", **more}]


_DEEP: Any = {}
for _ in range(300):
    _DEEP = {"not": _DEEP, "properties": {"a": {}}}

CORPUS: Mapping[str, Document] = {
    **{f"cel {place}": _subscription(filters=[{"cel": cel}]) for place, cel in enumerate(CEL)},
    **{
        f"route {place}": _subscription(routes={"rules": [{"match": cel, "path": "/x"}]})
        for place, cel in enumerate(CEL)
    },
    **{
        f"bent {place}": _subscription(filters=[{"cel": cel}], enforcement="BestEffort")
        for place, cel in enumerate(CEL)
    },
    **{f"schema {place}": _type(versions=_versions(schema=item)) for place, item in enumerate(JSON_SCHEMAS)},
    **{f"dead letters to {topic}": _subscription(delivery={"deadLetter": {"topic": topic}}) for topic in TOPICS},
    **{f"reads {topic}": _subscription(source={"topic": topic}) for topic in TOPICS},
    **{f"claims {topic}": _type(channel={"topic": topic}) for topic in TOPICS},
    **{f"is {item}": _type(type=item) for item in TYPES},
    "retries": _subscription(
        delivery={"retry": {"maxRetries": 2**31 - 1, "policy": "exponential", "maxInterval": "1h"}}
    ),
    "timeout of 400 digits": _subscription(delivery={"timeout": "9" * 400 + "s"}),
    "no such day": _type(versions=_versions(deprecation={"effective": "2026-01-01", "removal": "2027-06-31"})),
    "a list where a map is": _subscription(routes=["getlist"]),
    "deep schema": _type(versions=_versions(schema=_DEEP)),
    "wide schema": _type(
        versions=_versions(schema={"anyOf": [{"type": "string", "maxLength": n} for n in range(900)]})
    ),
    "many versions": _type(versions=[{"name": f"v{n}", "state": "Active"} for n in range(1, 65)]),
    "many filters": _subscription(filters=[{"any": [{"exact": {"data.a": str(n)}} for n in range(64)]}] * 16),
    "filters within filters": _subscription(filters=[json.loads('{"not":' * 40 + '{"exact":{"type":"a"}}' + "}" * 40)]),
    "separators in scopes": _subscription(consumer={"appId": "evil=a,b;payments"}),
    "every type of all": _subscription(pattern="*", namespace="far", versions=[]),
    "everybody's dead letters": _subscription(pattern="deadletter.*", versions=[]),
    "a huge rate": _subscription(rateLimit={"eventsPerSecond": 1e308}),
    "a tiny rate": _subscription(rateLimit={"eventsPerSecond": 5e-324}),
    "replay elsewhere": document(
        "EventReplay", "far", "s0", {"target": {"subscription": "victim", "namespace": "default"}}
    ),
    "replay in another's name": document(
        "EventReplay", "default", "s0", {"target": {"subscription": "victim"}, "requestedBy": "ada\x1b[2J"}
    ),
    "replay by an endless pattern": document(
        "EventReplay", "default", "s0", {"target": {"subscription": "victim"}, "filter": {"match": [{"cel": CEL[12]}]}}
    ),
}
"""What has done harm somewhere, or is of that kind, by what it is. Texts that only YAML can hold are elsewhere."""
