"""Which broker, and which account on it, a Dapr pub/sub component leads to, as far as the component itself says."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

_ADDRESS = {
    "pubsub.jetstream": "natsURL",
    "pubsub.redis": "redisHost",
    "pubsub.rabbitmq": "connectionString",
    "pubsub.kafka": "brokers",
}
_ACCOUNT = {
    "pubsub.jetstream": ("jwt", "seedKey", "token"),
    "pubsub.redis": ("redisUsername", "redisDB"),
    "pubsub.rabbitmq": (),
    "pubsub.kafka": ("saslUsername", "oidcClientID"),
}
_PORT = {"pubsub.jetstream": 4222, "pubsub.redis": 6379, "pubsub.rabbitmq": 5672, "pubsub.kafka": 9092}
_CLUSTER = (".svc.cluster.local", ".svc")
MOST_SERVERS, LONGEST = 32, 2_048


def accounts(document: Any, namespace: str) -> frozenset[str]:
    """Return a text for each server and account that a Component of a namespace leads to.

    Two components that have one in common are not kept apart by the broker. Empty where a Secret holds a part of it:
    what stands there nobody reads. The texts may hold passwords: keep a digest only.
    """
    try:
        kind, given = document["spec"]["type"], {each["name"]: each for each in document["spec"]["metadata"]}
        address = given[_ADDRESS[kind]].get("value")
        account = [given.get(name, {"value": ""}).get("value") for name in _ACCOUNT[kind]]
    except (AttributeError, KeyError, TypeError):
        return frozenset()  # no such component, or one that Dapr cannot read either
    if not isinstance(address, str) or len(address) > LONGEST or not all(isinstance(each, str) for each in account):
        return frozenset()
    return frozenset("\n".join((kind, server, *map(str, account))) for server in _servers(kind, address, namespace))


def _servers(kind: str, address: str, namespace: str) -> Iterator[str]:
    for each in address.split(",")[:MOST_SERVERS]:
        try:
            url = urlsplit(each.strip() if "://" in each else f"//{each.strip()}")
            host, port = (url.hostname or "").rstrip("."), url.port or _PORT[kind]
        except ValueError:
            continue
        if host:
            login = f"{url.username or ''}:{url.password or ''}"
            yield f"{login}@{_qualified(host, namespace)}:{port}{url.path.rstrip('/')}"


def _qualified(host: str, namespace: str) -> str:
    """Return one name for a Service, however it is written: `nats` of one namespace is not that of another."""
    for suffix in _CLUSTER:
        host = host.removesuffix(suffix)
    return host if "." in host or ":" in host else f"{host}.{namespace}"


def connected(accounts_by_namespace: Mapping[str, frozenset[str]], one: str, other: str) -> bool:
    """Return whether components of two namespaces lead to one account of one broker."""
    none: frozenset[str] = frozenset()
    return not accounts_by_namespace.get(one, none).isdisjoint(accounts_by_namespace.get(other, none))
