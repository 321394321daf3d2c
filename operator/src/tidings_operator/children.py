"""The children of an app: what its plan becomes in the cluster, and how a live child differs from it. Pure."""

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
BLOCKS = ("spec", "scopes", "data", "binaryData")
"""What of a child is ours alone: whatever else stands there is drift."""


class Name(NamedTuple):
    """A child within its namespace."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Desired:
    """A child as it should be."""

    name: Name
    manifest: dict[str, Any]
    hash: str
    """Of what of it is ours alone."""
    subscriptions: frozenset[str]
    """The EventSubscriptions that it is made from."""


@dataclass(frozen=True, slots=True)
class Live:
    """A child as it is: just enough to tell a difference."""

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
    """One write."""

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
    on_topic = _by_topic(planned)
    readers = frozenset(entry["name"] for entry in planned.policy["subscriptions"])
    manifests = []
    for manifest in planned.subscriptions:
        pubsub, topic = manifest["spec"]["pubsubname"], manifest["spec"]["topic"]
        manifests.append((manifest, on_topic.get((planned.parallel.get(pubsub, pubsub), topic), readers)))
    if planned.resiliency:
        manifests.append((planned.resiliency, readers))
    # The policy stands as long as the app wants to read anything: a pod that mounts it could not start without.
    manifests.append((config_map(planned), frozenset(known)))
    return [_desired(manifest, planned.app, names, known, uids) for manifest, names in manifests]


def live(item: Mapping[str, Any]) -> Live:
    """Read a child that the API server sent."""
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
        retained=tuple(_names(annotations, RETAINED)),
        is_managed=labels.get(MANAGED_BY) == MANAGER or HASH in annotations,
    )


def content(item: Mapping[str, Any]) -> str:
    """Return the hash of what of a child is ours; what others may add (labels, annotations) is left out."""
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
    """Return the writes that make what is present what is desired; none where nothing differs.

    Args:
        desired: The children as they should be.
        present: Those that there are.
        settled: By child, the hash that was last written or seen right, and that of what the server made of it.
        exists: Whether there is an EventSubscription of that name: what belonged to one that is gone may be kept.

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


def _by_topic(planned: AppPlan) -> dict[tuple[str, str], frozenset[str]]:
    by_topic: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in planned.policy["subscriptions"]:
        by_topic[entry["pubsub"], entry["topic"]].add(entry["name"])
    return {topic: frozenset(names) for topic, names in by_topic.items()}


def _desired(
    manifest: Mapping[str, Any],
    app: str,
    names: frozenset[str],
    known: Mapping[str, EventSubscription],
    uids: Mapping[str, str],
) -> Desired:
    retained = {name for name in names if known[name].spec.deletion_policy == "Retain"}
    # The cluster's garbage collector deletes a child when its last owner is gone: of a retained one, it must not.
    owners = [] if retained else [_owner(name, uids[name]) for name in sorted(names)]
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


def _owner(name: str, uid: str) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": "EventSubscription", "name": name, "uid": uid}


def _names(annotations: Mapping[str, str], which: str) -> frozenset[str]:
    return frozenset(filter(None, annotations.get(which, "").split(",")))
