"""Admission: reject, warn about and default objects before the API server stores them. Pure; uses the plan's rules.

A change is compared with the previous state: an existing error does not block a change of something else, and becomes a
warning.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal

import msgspec

from tidings_operator import accepted
from tidings_operator.conditions import format_finding
from tidings_plan import compatibility, plan_app, plan_replay, plan_type
from tidings_plan.impact import impacts
from tidings_plan.resources import (
    EventReplay,
    EventSubscription,
    EventType,
    Finding,
    Inventory,
    Key,
    Selection,
    has_errors,
    parse_resource,
)
from tidings_plan.resources.inventory import app_key, type_key

Operation = Literal["CREATE", "UPDATE", "DELETE"]
AWAITED = "tidings.dev/await-type"
"""Annotation: what it refers to will be applied later; `"true"` turns the rejection into a warning."""
APPLIERS_OF_SETS = ("kustomize-controller", "helm-controller", "helm", "argocd-controller")
"""Field managers (Flux, Helm, Argo CD) that apply a set in their own order.

A type may come after its readers, and a rejection would prevent the readers from ever being applied.
"""
MENDED_BY_TIME = ("unknown-type", "unknown-version", "draft-version", "unknown-target")

Part = tuple[str, Key, Any]
"""Kind, key, and the resource, or None if it does not exist."""


class GroupVersionKind(msgspec.Struct, frozen=True):
    """A kind, as a review names it."""

    kind: str


class UserInfo(msgspec.Struct, frozen=True):
    """The requesting user."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, Any] = {}


class Options(msgspec.Struct, frozen=True, rename="camel"):
    """Options of a request."""

    field_manager: str = ""


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """The relevant part of the request of an AdmissionReview (admission.k8s.io/v1)."""

    uid: str
    kind: GroupVersionKind
    operation: Operation
    namespace: str = ""
    user_info: UserInfo = UserInfo()
    dry_run: bool = False
    options: Options | None = None
    name: str = ""
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A requested change of an object. Objects that are being deleted count as deleted."""

    kind: str
    key: Key
    operation: Operation
    new: Any = None
    old: Any = None
    unreadable: tuple[Finding, ...] = ()
    """Reason why the new object could not be read."""
    may_be_early: bool = False
    """True if objects that it requires may be applied after it, in the same set."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """Status of the old object, with its accepted states."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Errors of a change (none: it is allowed) and warnings for its author."""

    errors: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()


def read(request: Request, now: str) -> Change:
    """Read a request; an object that is being created gets the current time as its creation time (ISO 8601)."""
    new, findings = _resource(None if request.operation == "DELETE" else request.object, now)
    old, _ = _resource(request.old_object, now)
    known = new or old  # a request to delete a collection has no name, but asks for each object
    name = known.metadata.name if known else request.name
    status = (request.old_object or {}).get("status") or {}
    manager = request.options.field_manager if request.options else ""
    early = request.dry_run or manager in APPLIERS_OF_SETS
    key = (request.namespace, name)
    return Change(request.kind.kind, key, request.operation, new, old, tuple(findings), early, status)


def judge(change: Change, inventory: Inventory, today: date, fresh: Sequence[Part] = ()) -> Verdict:
    """Evaluate a change in the context of the inventory; `fresh` are objects that the inventory does not have yet."""
    if change.unreadable:
        return Verdict(change.unreadable)
    if change.new is None and (change.kind != "EventType" or change.old is None or change.operation == "UPDATE"):
        return Verdict()
    with supposing(inventory, fresh):
        if change.kind == "EventType":
            return _type(change, inventory, today)
        if change.kind == "EventSubscription":
            return _subscription(change, inventory, today)
        if change.operation != "CREATE":
            return _verdict(_renamed(change))
        return _verdict(_awaited(each, change.new, change.may_be_early) for each in plan_replay(change.new, inventory))


def defaults(kind: str, operation: Operation, spec: Mapping[str, Any], user: str) -> dict[str, Any]:
    """Return the defaults of a spec that the CRD's schema cannot express.

    Values that the plan takes from the EventType (component, topic) are not among them: they would not follow changes
    of the type.
    """
    if kind == "EventType" and not spec.get("domain") and "." in str(spec.get("type")):
        return {"domain": str(spec["type"]).partition(".")[0]}
    if kind == "EventReplay" and operation == "CREATE":
        return {"requestedBy": user}  # ignores any given value: the requester is the authenticated user
    return {}


def _renamed(change: Change) -> Iterator[Finding]:
    """Yield an error if a change of a replay names another requester."""
    new: EventReplay = change.new
    if change.old is not None and change.old.spec.requested_by != new.spec.requested_by:
        message = f"{change.old.spec.requested_by!r} asked for this replay, which does not change"
        fix = "Create another EventReplay."
        yield new.finding("error", "replay-requested-by", message, fix, at=("spec", "requestedBy"))


@contextmanager
def supposing(inventory: Inventory, parts: Iterable[Part]) -> Iterator[None]:
    """Apply changes to the inventory within the context. Never await in it: other tasks would see the changes."""
    before: list[Part] = []
    try:
        for kind, key, resource in parts:
            before.append((kind, key, _known(inventory, kind, key)))
            _set(inventory, kind, key, resource)
        yield
    finally:
        for part in reversed(before):
            _set(inventory, *part)


def _resource(body: Any, now: str) -> tuple[Any, list[Finding]]:
    """Parse an object; return None without a finding if it is missing or being deleted."""
    if not body or body["metadata"].get("deletionTimestamp"):
        return None, []
    metadata = {**body["metadata"], "creationTimestamp": body["metadata"].get("creationTimestamp") or now}
    # With generateName, the name is assigned after admission.
    metadata.setdefault("name", metadata.get("generateName", "").rstrip("-.") or "unnamed")
    return parse_resource({**body, "metadata": metadata})


def _subscription(change: Change, inventory: Inventory, today: date) -> Verdict:
    new: EventSubscription = change.new
    app = app_key(new)
    with supposing(inventory, [(change.kind, change.key, change.old)]):
        before = plan_app(app, inventory, today).findings
    with supposing(inventory, [(change.kind, change.key, new)]):
        after = plan_app(app, inventory, today).findings
    own = [_awaited(finding, new, change.may_be_early) for finding in after if finding.resource == new.ref]
    return _verdict([*_ratcheted(own, before), *_broken(before, after, {new.ref})])


def _awaited(finding: Finding, resource: EventSubscription | EventReplay, may_be_early: bool) -> Finding:
    """Turn errors that may resolve themselves into warnings, if the resource is annotated or part of a set.

    A dry run sends each object of a set separately (Flux's, `kubectl diff`), and none exists when the next one is
    checked.
    """
    waits = (
        may_be_early
        or resource.metadata.annotations.get(AWAITED) == "true"
        or getattr(resource.spec, "enforcement", "") == "BestEffort"
    )
    if finding.severity != "error" or finding.rule not in MENDED_BY_TIME:
        return finding
    if waits:
        return replace(finding, severity="warning", fix="It takes effect as soon as that is there.")
    return replace(finding, fix=f'{finding.fix} If it is applied later: annotate {AWAITED}: "true".'.lstrip())


def _type(change: Change, inventory: Inventory, today: date) -> Verdict:
    this: EventType = change.new or change.old
    with supposing(inventory, [(change.kind, change.key, change.old)]):
        in_use = change.old if change.old and inventory.type(type_key(this)) is change.old else None
        consumers = inventory.consumers(in_use or this)
        known = plan_type(change.old, inventory, today) if change.old else []
    with supposing(inventory, [(change.kind, change.key, change.new)]):
        findings = plan_type(change.new, inventory, today) if change.new else []
        left: list[EventType] = [change.new] if change.new else inventory.claims(type_key(this))
    near = Inventory([*left, *{consumer.subscription for consumer in consumers}])
    against: list[Finding] = []
    if in_use:
        misfits = accepted.misfits(in_use, change.status, consumers)
        # What is not accepted yet may be changed.
        states = accepted.earlier(in_use, change.status) + ([] if misfits else [in_use])
        against += _ratcheted(compatibility.check(near, [Inventory([state]) for state in states]), misfits)
    if not has_errors(against):
        against += _stalling(change, consumers, inventory, today)
    leaving = [
        this.finding(
            "warning", "deprecated", f"{this.spec.type} {impact.version} is deprecated", " ".join(impact.advice)
        )
        for impact in impacts(near, [Inventory([in_use])] if in_use else [])
        if impact.effect == "deprecated" and impact.consumers
    ]
    return _verdict([*_ratcheted(findings, known), *against, *leaving])


def _stalling(change: Change, consumers: Iterable[Selection], inventory: Inventory, today: date) -> list[Finding]:
    """Return an error for each subscription that worked before the change and would not after it."""
    apps = dict.fromkeys(app_key(consumer) for consumer in consumers)
    with supposing(inventory, [(change.kind, change.key, change.new)]):
        after = {app: plan_app(app, inventory, today).findings for app in apps}
    with supposing(inventory, [(change.kind, change.key, change.old)]):
        # A type may have thousands of readers: evaluate the previous state only if there are errors now.
        before = {
            app: plan_app(app, inventory, today).findings for app, findings in after.items() if has_errors(findings)
        }
    return [finding for app, findings in before.items() for finding in _broken(findings, after[app], set())]


def _ratcheted(findings: Iterable[Finding], before: Iterable[Finding]) -> Iterator[Finding]:
    """Turn errors that existed before the change into warnings."""
    known = {(finding.rule, finding.message) for finding in before if finding.severity == "error"}
    for finding in findings:
        is_old = finding.severity == "error" and (finding.rule, finding.message) in known
        yield replace(finding, severity="warning") if is_old else finding


def _broken(before: Iterable[Finding], after: Iterable[Finding], own: set[str]) -> Iterator[Finding]:
    """Yield the first error of each entry of another subscription that had none before the change."""
    stalled = {_entry(finding) for finding in before if finding.severity == "error"} | {(name, "") for name in own}
    for finding in after:
        entry = _entry(finding)
        if finding.severity == "error" and stalled.isdisjoint((entry, (finding.resource, ""))):
            stalled.add(entry)
            message = f"This breaks {finding.resource}: {finding.message}"
            yield replace(finding, rule="breaks-subscription", message=message)


def _entry(finding: Finding) -> tuple[str, str]:
    """Return a finding's subscription and the path of the entry of `spec.events` that it rejects; empty for all."""
    match = re.match(r"spec\.events\[\d+\]", finding.location.field)
    return finding.resource, match[0] if match else ""


def _verdict(findings: Iterable[Finding]) -> Verdict:
    unique = list(dict.fromkeys(findings))
    warnings = tuple(format_finding(finding) for finding in unique if finding.severity == "warning")
    return Verdict(tuple(finding for finding in unique if finding.severity == "error"), warnings)


def _known(inventory: Inventory, kind: str, key: Key) -> EventType | EventSubscription | EventReplay | None:
    if kind == "EventType":
        return inventory.types.get(key)
    return inventory.subscriptions.get(key) if kind == "EventSubscription" else inventory.replays.get(key)


def _set(inventory: Inventory, kind: str, key: Key, resource: Any) -> None:
    if resource is None:
        inventory.remove(kind, key)
    else:
        inventory.put(resource)
