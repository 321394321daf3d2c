"""The children of an app: its plan as Kubernetes objects, and their differences to the live ones. Pure."""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from tidings_plan import AppPlan
from tidings_plan.configmap import config_map
from tidings_plan.resources import API_VERSION, EventSubscription

MANAGED_BY = "app.kubernetes.io/managed-by"
APP = "tidings.dev/app"
HASH = "tidings.dev/hash"
SUBSCRIPTIONS = "tidings.dev/subscriptions"
RETAINED = "tidings.dev/retained"
MANAGER = "tidings"
SELECTOR = f"{MANAGED_BY}={MANAGER}"
SYSTEM_MAP = "system-map"
"""ConfigMap with the system map of a namespace. It is kept as the child of an app without a name."""
BLOCKS = ("spec", "scopes", "data", "binaryData")
"""Parts of a child that only the operator may write: other content is drift."""


class Name(NamedTuple):
    """A child within its namespace."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Desired:
    """A desired child."""

    name: Name
    manifest: dict[str, Any]
    hash: str
    """Of what of it is ours alone."""
    subscriptions: frozenset[str]
    """The EventSubscriptions that it is made from."""


@dataclass(frozen=True, slots=True)
class Live:
    """The comparable part of a live child."""

    name: Name
    namespace: str
    app: str
    uid: str
    version: int
    hash: str
    """The one it was written with."""
    content: str
    """The hash of what it really holds: thousands of bodies would fill the memory."""
    retained: tuple[str, ...]
    is_managed: bool


Action = Literal["create", "update", "repair", "delete"]


@dataclass(frozen=True, slots=True)
class Step:
    """A write."""

    action: Action
    desired: Desired | None = None
    live: Live | None = None

    @property
    def name(self) -> Name:
        """Name of the affected child."""
        if self.desired:
            return self.desired.name
        if self.live:
            return self.live.name
        raise ValueError("a step is about a desired or a live child")


def build(planned: AppPlan, subscriptions: Iterable[EventSubscription], uids: Mapping[str, str]) -> list[Desired]:
    """Return all children of an app; `uids` are those of its EventSubscriptions, by name."""
    known = {subscription.metadata.name: subscription for subscription in subscriptions}
    if not known:
        return []
    by_topic: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in planned.policy.subscriptions:
        by_topic[entry.pubsub, entry.topic].add(entry.name)
    on_topic = {topic: frozenset(names) for topic, names in by_topic.items()}
    readers = frozenset(entry.name for entry in planned.policy.subscriptions)
    manifests = []
    for manifest in planned.subscriptions:
        pubsub, topic = manifest["spec"]["pubsubname"], manifest["spec"]["topic"]
        manifests.append((manifest, on_topic.get((planned.parallel.get(pubsub, pubsub), topic), readers)))
    if planned.resiliency:
        manifests.append((planned.resiliency, readers))
    # The policy exists as long as the app has subscriptions: a pod that mounts it could not start without it.
    manifests.append((config_map(planned), frozenset(known)))
    return [_desired(manifest, planned.app, names, known, uids) for manifest, names in manifests]


def build_map(
    namespace: str, drawn: Any, subscriptions: Iterable[EventSubscription], uids: Mapping[str, str]
) -> list[Desired]:
    """Return the ConfigMap with the system map of a namespace; nothing for one without EventSubscriptions."""
    known = {subscription.metadata.name: subscription for subscription in subscriptions}
    if not known:
        return []
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": SYSTEM_MAP, "namespace": namespace},
        "data": {"map.json": msgspec.json.encode(drawn).decode()},
    }
    # One owner is enough to have the map deleted with the last EventSubscription, also without an operator: after the
    # owner's deletion, the operator names another one.
    owner = min(known, key=lambda name: (known[name].spec.deletion_policy == "Retain", name))
    return [_desired(manifest, "", frozenset((owner,)), known, uids)]


def live(item: Mapping[str, Any]) -> Live:
    """Read a live child."""
    metadata = item["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    written, actual = annotations.get(HASH, ""), content(item)
    return Live(
        name=Name(sys.intern(item["kind"]), metadata["name"]),
        namespace=sys.intern(metadata["namespace"]),
        app=sys.intern(labels.get(APP, "")),
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
        hash=actual if written == actual else written,  # one text in memory, not two
        content=actual,
        retained=tuple(filter(None, annotations.get(RETAINED, "").split(","))),
        is_managed=labels.get(MANAGED_BY) == MANAGER or HASH in annotations,
    )


def content(item: Mapping[str, Any]) -> str:
    """Return the hash of the operator's part of a child, without what others may add (labels, annotations)."""
    metadata = item["metadata"]
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    owners = [
        (owner["uid"], owner["name"])
        for owner in metadata.get("ownerReferences") or ()
        if owner["apiVersion"] == API_VERSION
    ]
    whole = msgspec.json.encode(
        {
            **{block: item[block] for block in BLOCKS if item.get(block)},
            "labels": {name: labels.get(name) for name in (MANAGED_BY, APP)},
            "annotations": {name: annotations.get(name, "") for name in (SUBSCRIPTIONS, RETAINED)},
            "owners": sorted(owners),
        },
        order="deterministic",
    )
    return hashlib.sha256(whole).hexdigest()[:16]


def steps(
    desired: Iterable[Desired],
    present: Mapping[Name, Live],
    settled: Mapping[Name, tuple[str, str]],
    exists: Callable[[str], bool],
) -> list[Step]:
    """Return the writes that turn the present children into the desired ones.

    Args:
        desired: The desired children.
        present: The live children.
        settled: By child, the hash that was written or observed as correct, and the hash of the server's version of it.
        exists: Tests whether an EventSubscription of that name exists: children of a deleted one may be retained.

    """
    by_name = {child.name: child for child in desired}
    updates = [_step(child, present.get(name), settled.get(name)) for name, child in by_name.items()]
    extra = [child for name, child in present.items() if name not in by_name and all(map(exists, child.retained))]
    return [*(step for step in updates if step), *(Step("delete", live=child) for child in extra)]


def _step(desired: Desired, present: Live | None, settled: tuple[str, str] | None) -> Step | None:
    before, made_of_it = settled or ("", "")
    if present is None:
        return Step("repair" if before == desired.hash else "create", desired)
    if present.hash == desired.hash and present.content in (desired.hash, made_of_it):
        return None
    is_drift = desired.hash in (present.hash, before)
    return Step("repair" if is_drift else "update", desired, present)


def _desired(
    manifest: Mapping[str, Any],
    app: str,
    names: frozenset[str],
    known: Mapping[str, EventSubscription],
    uids: Mapping[str, str],
) -> Desired:
    retained = {name for name in names if known[name].spec.deletion_policy == "Retain"}
    # The garbage collector deletes a child after its last owner: retained ones must not have owners.
    owners = (
        []
        if retained
        else [
            {"apiVersion": API_VERSION, "kind": "EventSubscription", "name": name, "uid": uids[name]}
            for name in sorted(names)
        ]
    )
    metadata = {
        **manifest["metadata"],
        "labels": {MANAGED_BY: MANAGER, APP: app},
        "annotations": {SUBSCRIPTIONS: ",".join(sorted(names)), RETAINED: ",".join(sorted(retained))},
        "ownerReferences": owners,
    }
    whole = {**manifest, "metadata": metadata}
    digest = content(whole)
    metadata["annotations"] = {**metadata["annotations"], HASH: digest}
    return Desired(Name(whole["kind"], metadata["name"]), whole, digest, names)
