"""Delivery properties of Dapr's pub/sub components that plans depend on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

StartPosition = Literal["Earliest", "Latest", "Connected", "Unknown"]
"""Connected: the broker keeps nothing, so that a consumer receives what is published while it is connected."""
_JETSTREAM: Mapping[str, StartPosition] = {"all": "Earliest", "new": "Latest"}
_KAFKA: Mapping[str, StartPosition] = {"oldest": "Earliest", "newest": "Latest"}
PARALLEL = "tidings.dev/components"
"""Annotation of a component in a file: how many of it there are to be, with its name and `-1`, `-2` … appended."""
MOST_PARALLEL = 32
_OF_SOMEBODY_ELSE = ("publishingScopes", "subscriptionScopes", "tidingsReopened")
"""Settings in which components that share a broker's consumer may differ."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Facts about a type of pub/sub component."""

    address: str
    """Setting with the servers' addresses."""
    account: tuple[str, ...]
    """Settings that select an account of the broker, besides the user in the address."""
    port: int
    """Default port of a server."""
    concurrent: bool = True
    """Delivers several messages of a topic concurrently, unless `mode` is `single`."""
    spread: bool = False
    """Topics disturb each other within a component: each is read through one of several where there are several."""
    mode: str = ""
    """Setting that limits delivery to one message at a time with the value `single`."""
    consumer: tuple[str, ...] = ("consumerID",)
    """Settings that name the consumer at the broker; the first one that is set counts."""
    separator: str = ""
    """What the broker's queue has between that name and the topic; empty: each topic has consumers of its own."""


BROKERS = {
    "pubsub.jetstream": Broker(
        "natsURL", ("jwt", "seedKey", "token"), 4222, False, mode="concurrency", consumer=("durableName",)
    ),
    "pubsub.redis": Broker("redisHost", ("redisUsername", "redisDB"), 6379),
    "pubsub.rabbitmq": Broker("connectionString", (), 5672, spread=True, mode="concurrencyMode", separator="-"),
    "pubsub.kafka": Broker(
        "brokers", ("saslUsername", "oidcClientID"), 9092, spread=True, consumer=("consumerGroup", "consumerID")
    ),
}
_OTHER = Broker("", (), 0, concurrent=False)
_APP, _NAMESPACE = "{appID}", "{namespace}"
_OF_AN_INSTANCE = ("{podName}", "{uuid}")


LONGEST_NAME = 255
"""Maximum length of a queue's name on RabbitMQ: a component with a longer consumer's name reads nothing."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """The consumer that a component has at the broker, as far as the component itself says."""

    broker: str
    """The same for components that certainly lead to the same broker. It may hold a password."""
    name: str
    """Its name, with Dapr's placeholders."""
    separator: str = ""
    is_alone: bool = False
    """Whether a single app may use the component."""

    @property
    def is_fixed(self) -> bool:
        """Return True if all apps that use the component have the same consumer."""
        return not self.is_alone and _APP not in self.name and _NAMESPACE not in self.name

    @property
    def is_apart(self) -> bool:
        """Return True if no two apps can have the same queue, by the form of the name alone."""
        after = self.name.rpartition("}")[2]
        has_end = not self.separator or not re.match(r"[A-Za-z0-9._-]|$", after)
        return not self.is_alone and not self.is_fixed and has_end

    def at(self, namespace: str, app: str, topic: str) -> str:
        """Return the name of an app's queue."""
        name = self._name_in(namespace).replace(_APP, app)
        return f"{name}{self.separator}{topic}" if self.separator else f"{name} {topic}"

    def _name_in(self, namespace: str) -> str:
        """Return the name in a namespace; daprd replaces {namespace} by namespace and app id."""
        return self.name.replace(_NAMESPACE, f"{namespace}.{_APP}")

    def candidates(self, namespace: str, queue: str) -> list[str]:
        """Return the app ids, as far as their form goes, that could have this queue with another topic."""
        before, is_named, after = self._name_in(namespace).partition(_APP)
        if not (self.separator and is_named):
            return []
        names = (queue[:end] for end, letter in enumerate(queue) if letter == self.separator)
        return [
            name[len(before) : len(name) - len(after)]
            for name in names
            if name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)
        ]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a pub/sub component delivers, as far as the component itself says."""

    serial: bool = False
    """One message at a time: it waits for each acknowledgement before the next message."""
    sharing: bool = False
    """All topics of an app share its workers: a slow topic delays the others."""
    concurrent: bool = False
    """Several messages of one topic at a time."""
    start: StartPosition = "Unknown"
    """Where a new consumer starts."""
    settings: str = ""
    """Equal for components that share a consumer at the broker; empty if it shares none. May hold a password."""
    consumer: Consumer | None = None
    """None if each sidecar has one of its own, or the name is in a Secret."""


def delivery(document: Any) -> Delivery | None:
    """Return how a Component delivers; None for other documents, and for Components that Dapr cannot read either."""
    kind = _type(document)
    if not kind:
        return None
    listed = document["spec"].get("metadata")
    metadata = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    values = {str(entry.get("name")): str(entry.get("value")) for entry in metadata}
    broker = BROKERS.get(kind, _OTHER)
    serial = broker.mode != "" and values.get(broker.mode) == "single"
    shared = [entry for entry in metadata if entry.get("name") not in _OF_SOMEBODY_ELSE]
    return Delivery(
        serial=serial,
        sharing=kind == "pubsub.redis",
        concurrent=broker.concurrent and not serial,
        start=_start_position(kind, values),
        settings=repr([kind, document["spec"].get("version"), shared]) if serial or broker.spread else "",
        consumer=_consumer(kind, values, document),
    )


def _consumer(kind: str, values: Mapping[str, str], document: Any) -> Consumer | None:
    if not kind.startswith("pubsub.") or kind == "pubsub.in-memory":
        return None
    if kind == "pubsub.jetstream" and "durableName" not in values:
        return None
    broker = BROKERS.get(kind, _OTHER)
    name = next((value for key in broker.consumer if (value := values.get(key, "").strip())), _APP)
    if name == "None" or len(name) > LONGEST_NAME or any(placeholder in name for placeholder in _OF_AN_INSTANCE):
        return None
    scopes = document.get("scopes")
    is_alone = isinstance(scopes, list) and len(scopes) == 1
    where = values.get(broker.address, "None")  # "None": in a Secret
    place = [kind, where] if where != "None" else [kind, "", document["metadata"]["name"]]
    return Consumer(repr(place), name, broker.separator, is_alone)


def _start_position(kind: str, values: Mapping[str, str]) -> StartPosition:
    match kind:
        case "pubsub.redis":
            return "Earliest"  # consumer groups are created at 0
        case "pubsub.rabbitmq":
            return "Latest"  # a queue receives what is published once it exists
        case "pubsub.jetstream":
            return _JETSTREAM.get(values.get("deliverPolicy", "all"), "Unknown")
        case "pubsub.kafka":
            return _KAFKA.get(values.get("initialOffset", "newest"), "Unknown")
        case "pubsub.in-memory" | "pubsub.mqtt3":
            return "Connected"
    return "Unknown"


def _type(document: Any) -> str:
    """Return the type of a Component; empty for other documents and for Components that Dapr cannot read either."""
    if not isinstance(document, dict) or document.get("kind") != "Component":
        return ""
    spec, metadata = document.get("spec"), document.get("metadata")
    if not isinstance(spec, dict) or not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return ""
    return spec["type"] if isinstance(spec.get("type"), str) else ""


def parallel(document: Any) -> list[dict[str, Any]]:
    """Return a Component and those that deliver in parallel with it, as many as its annotation says.

    They differ in their names only, so they share the broker's consumer.
    """
    if not _type(document):
        return []
    metadata = {**document["metadata"]}
    name, annotations = metadata["name"], metadata.pop("annotations", None)
    if not isinstance(annotations, dict) or PARALLEL not in annotations:
        return [document]
    if rest := {key: value for key, value in annotations.items() if key != PARALLEL}:
        metadata["annotations"] = rest
    try:
        count = min(max(int(annotations[PARALLEL]), 1), MOST_PARALLEL)
    except (TypeError, ValueError, OverflowError):
        count = 1
    names = [name, *(f"{name}-{number}" for number in range(1, count))]
    return [{**document, "metadata": {**metadata, "name": item}} for item in names]
