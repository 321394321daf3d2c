"""Adopt existing systems: derive EventTypes and EventSubscriptions from Dapr's Subscriptions and Resiliency.

What is planned from the result equals what was read, except where a finding says otherwise. Nothing is guessed about
apps: their subscriptions are declared without the SDK (`kit: false`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidings.conventions import dead_letter_topic
from tidings_plan import cel, naming, planning
from tidings_plan.resources.findings import Finding, has_errors
from tidings_plan.resources.inventory import Inventory
from tidings_plan.resources.model import API_VERSION
from tidings_plan.resources.parsing import parse_resource
from tidings_plan.resources.source_location import Origin

Document = Mapping[str, Any]
_CHANNEL = re.compile(r"(?P<type>.+)\.v(?P<major>[1-9][0-9]{0,3})")
_UNLIMITED = 10_000


@dataclass
class Adopted:
    """Derived documents, with the findings about the originals."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class _Read:
    """One Dapr Subscription as one app has it."""

    app: str
    namespace: str
    name: str
    spec: Document
    origin: Origin

    @property
    def routes(self) -> Document:
        """Routes of v2alpha1; `route` of v1alpha1 is the default one."""
        routes = self.spec.get("routes") or {"default": self.spec.get("route")}
        return {name: value for name, value in routes.items() if value}

    @property
    def bulk(self) -> Document | None:
        """Bulk settings, if bulk delivery is enabled."""
        bulk = self.spec.get("bulkSubscribe") or {}
        return {"maxMessagesCount": 100, "maxAwaitDurationMs": 1000, **bulk} if bulk.get("enabled") else None

    def finding(self, severity: Any, rule: str, message: str, fix: str, *at: str | int) -> Finding:
        """Create a finding about the Subscription."""
        return Finding(severity, rule, message, fix, self.origin.at("spec", *at), f"Subscription/{self.name}")


def adopt(read: Iterable[tuple[Any, Origin]]) -> Adopted:
    """Derive resources from parsed documents; those of other kinds are ignored."""
    documents = list(read)
    adopted = Adopted()
    subscriptions = [subscription for entry in documents for subscription in _subscriptions(*entry, adopted)]
    policies = [document for document, _ in documents if _is_dapr(document, "Resiliency")]
    types: dict[tuple[str, str, str], str] = {}
    for item in subscriptions:
        channel = (item.namespace, str(item.spec.get("pubsubname")), str(item.spec.get("topic")))
        if channel not in types:
            types[channel], document = _event_type(*channel)
            adopted.documents.append(document)
        try:
            adopted.documents.append(_subscription(item, types[channel], policies, adopted))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"Subscription {item.name} cannot be adopted: {type(error).__name__}: {error}"[:500]
            adopted.findings.append(item.finding("error", "unreadable", message, "Compare it with Dapr's schema."))
    adopted.documents.sort(key=lambda document: document["kind"], reverse=True)
    adopted.findings += differences(subscriptions, adopted.documents)
    return adopted


def differences(subscriptions: list[_Read], documents: Iterable[Document]) -> Iterator[Finding]:
    """Plan the result, and yield what is wrong in it and where it differs from what was read."""
    inventory = Inventory()
    for document in documents:
        resource, findings = parse_resource(document)
        yield from findings
        if resource:
            inventory.put(resource)
    planned = planning.plan(inventory)
    expected = ("malformed-cel", "no-producer", "plain-delivery", "schema-missing", "unreachable-subscription")
    yield from (finding for finding in planned.findings if finding.severity != "info" and finding.rule not in expected)
    rendered = {
        (app.namespace, app.app, child["spec"]["pubsubname"], child["spec"]["topic"]): child["spec"]
        for app in planned.apps.values()
        for child in app.subscriptions
    }
    for subscription in subscriptions:
        now = rendered.get(
            (
                subscription.namespace,
                subscription.app,
                subscription.spec.get("pubsubname"),
                subscription.spec.get("topic"),
            ),
            {},
        )
        before = {
            "routes": subscription.routes,
            "deadLetterTopic": subscription.spec.get("deadLetterTopic"),
            "bulkSubscribe": subscription.bulk,
        }
        for name, value in before.items():
            if value and now.get(name) != value:
                message = f"{name} becomes {now.get(name, 'nothing')} for {subscription.app}; it was {value}"
                yield subscription.finding(
                    "warning", "differs", message, "Compare both before you delete the old one.", name
                )


def _is_dapr(document: Any, kind: str) -> bool:
    """Return whether a document is a Dapr resource of a kind, and not one that the operator has written."""
    if not isinstance(document, Mapping) or document.get("kind") != kind:
        return False
    metadata = document.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    is_managed = isinstance(labels, Mapping) and labels.get("app.kubernetes.io/managed-by") == "tidings"
    return str(document.get("apiVersion", "")).startswith("dapr.io/") and not is_managed


def _subscriptions(document: Any, origin: Origin, adopted: Adopted) -> Iterator[_Read]:
    if not _is_dapr(document, "Subscription"):
        return
    metadata, spec = document.get("metadata"), document.get("spec")
    if not isinstance(metadata, Mapping) or not isinstance(spec, Mapping):
        return
    name, namespace = str(metadata.get("name")), str(metadata.get("namespace") or "default")
    if not document.get("scopes"):
        message = f"Subscription {name} has no scopes: every app of the namespace {namespace} consumes it"
        fix = "Add scopes: [APP] with the apps that have its routes, and adopt it again."
        adopted.findings.append(
            Finding("error", "no-scopes", message, fix, origin.at("metadata", "name"), f"Subscription/{name}")
        )
    for app in document.get("scopes") or ():
        yield _Read(str(app), namespace, name, spec, origin)


def _event_type(namespace: str, pubsub: str, topic: str) -> tuple[str, dict[str, Any]]:
    """Declare the type of a topic: by its name if that is a valid one, otherwise by a name made of it."""
    shape = _CHANNEL.fullmatch(topic)
    own, major = (shape["type"], shape["major"]) if shape else (topic, "1")
    domain, *words = re.findall(r"[A-Za-z0-9]+", own) or ["adopted"]
    fact = "".join(word[:1].upper() + word[1:] for word in words or [domain])
    made = f"{domain if words else 'adopted'}.{fact[:1].lower()}{fact[1:]}Published"
    name = next((candidate for candidate in (own, made) if not _is_wrong(candidate)), made)
    spec = {
        "type": name,
        "owner": {"team": "unknown"},
        "channel": {"pubsub": pubsub, "topic": topic},
        "versions": [{"name": f"v{major}"}],
    }
    return name, _document("EventType", namespace, name.lower(), spec)


def _is_wrong(name: str) -> bool:
    spec = {"type": name, "owner": {"team": "unknown"}, "versions": [{"name": "v1"}]}
    resource, findings = parse_resource(_document("EventType", "default", "probe", spec))
    return resource is None or has_errors([*findings, *naming.check(resource)])


def _subscription(document: _Read, kind: str, policies: list[Document], adopted: Adopted) -> dict[str, Any]:
    topic = str(document.spec.get("topic"))
    shape = _CHANNEL.fullmatch(topic)
    letters = document.spec.get("deadLetterTopic")
    if not letters:
        message = f"{document.app} has no dead-letter topic for {topic}: an event that fails for good is lost"
        fix = f"The adopted subscription uses {dead_letter_topic(document.app)}. Let an archive read it."
        adopted.findings.append(document.finding("warning", "no-dead-letters", message, fix, "topic"))
    for index, rule in enumerate(document.routes.get("rules") or ()):
        if problem := cel.check(str(rule.get("match"))):
            message = f"The rule is not valid CEL, and ends the sidecar of {document.app}: {problem.message}"
            adopted.findings.append(
                document.finding("error", "malformed-cel", message, problem.fix, "routes", "rules", index, "match")
            )
    if not document.routes.get("default"):
        message = f"An event of {topic} that matches no rule is dropped silently by {document.app}"
        fix = "Add routes.default, or filters that say which events are wanted."
        adopted.findings.append(document.finding("warning", "no-default-route", message, fix, "routes"))
    is_default = letters in (None, "", dead_letter_topic(document.app))
    dead_letter = {"replay": False, **({} if is_default else {"topic": letters})}  # today, no replay reaches the app
    spec: dict[str, Any] = {
        "events": [{"type": kind, "versions": [f"v{shape['major'] if shape else 1}"]}],
        "consumer": {"appId": document.app, "kit": False},
        "routes": dict(document.routes),
        "delivery": {**_delivery(document, policies, adopted), "deadLetter": dead_letter},
        "enforcement": "BestEffort",
    }
    if document.bulk:
        spec["bulk"] = {
            "maxMessages": document.bulk["maxMessagesCount"],
            "maxAwait": f"{document.bulk['maxAwaitDurationMs']}ms",
        }
    name = re.sub(r"[^a-z0-9.-]+", "-", f"{document.app}-{topic}".lower()).strip("-.")
    return _document("EventSubscription", document.namespace, name, spec)


def _delivery(document: _Read, policies: list[Document], adopted: Adopted) -> dict[str, Any]:
    """Return the delivery policy that the app's Resiliency gives the component."""
    retry, timeout, breaker = _policies(document, policies)
    if retry is None:
        message = (
            f"{document.app} makes one attempt per event on {document.spec.get('pubsubname')}: no retry policy applies"
        )
        fix = "Set delivery.retry, for example {maxRetries: 5}."
        adopted.findings.append(document.finding("warning", "one-attempt", message, fix, "pubsubname"))
    policy = retry or {"maxRetries": 0}
    most = policy.get("maxRetries", -1)
    plain = {
        "policy": "Exponential" if policy.get("policy") == "exponential" else "Constant",
        "duration": None if policy.get("policy") == "exponential" else policy.get("duration", "5s"),
        "maxInterval": policy.get("maxInterval", "60s") if policy.get("policy") == "exponential" else None,
        "maxRetries": _UNLIMITED if int(most) < 0 else most,
    }
    delivery: dict[str, Any] = {"retry": {name: value for name, value in plain.items() if value is not None}}
    if int(most) < 0 and retry is not None:
        message = f"{document.app} retries an event for ever, and its topic waits: the adopted limit is {_UNLIMITED}"
        adopted.findings.append(document.finding("warning", "endless-retry", message, "Set maxRetries.", "pubsubname"))
    if timeout:
        delivery["timeout"] = timeout
    else:
        message = f"An attempt of {document.app} that never ends holds its event for ever: no timeout applies"
        fix = "The adopted subscription has the default of 10s; set delivery.timeout if that is too short."
        adopted.findings.append(document.finding("warning", "no-timeout", message, fix, "pubsubname"))
    if breaker:
        delivery["circuitBreaker"] = {name: value for name, value in breaker.items() if value is not None}
    return delivery


def _policies(item: _Read, policies: list[Document]) -> tuple[Document | None, str | None, Document | None]:
    """Return the retry, timeout and circuit breaker of the app's component; the last Resiliency wins, as in daprd."""
    chosen: tuple[Document | None, str | None, Document | None] = (None, None, None)
    for document in policies:
        namespace = (document.get("metadata") or {}).get("namespace") or "default"
        if namespace != item.namespace or (document.get("scopes") and item.app not in document["scopes"]):
            continue
        spec = document.get("spec") or {}
        target = ((spec.get("targets") or {}).get("components") or {}).get(item.spec.get("pubsubname")) or {}
        inbound, known = target.get("inbound") or {}, spec.get("policies") or {}
        if inbound:
            retry = (known.get("retries") or {}).get(inbound.get("retry"))
            timeout = (known.get("timeouts") or {}).get(inbound.get("timeout"))
            chosen = retry, timeout, (known.get("circuitBreakers") or {}).get(inbound.get("circuitBreaker"))
    return chosen


def _document(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace != "default" else {})}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
