"""Broker accounts of Dapr pub/sub components, as far as the component itself reveals them."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from tidings_plan.resources.brokers import BROKERS

_CLUSTER = (".svc.cluster.local", ".svc")
MOST_SERVERS, LONGEST = 32, 2_048


def accounts(document: Any, namespace: str) -> frozenset[str]:
    """Return a string per server and account that a Component uses.

    The broker does not isolate two components that have one of them in common. Empty if the address or the account is
    in a Secret, which is not read. The strings may contain passwords: store digests only.
    """
    try:
        kind, entries = document["spec"]["type"], {entry["name"]: entry for entry in document["spec"]["metadata"]}
        address = entries[BROKERS[kind].address].get("value")
        account = [entries.get(name, {"value": ""}).get("value") for name in BROKERS[kind].account]
    except (AttributeError, KeyError, TypeError):
        return frozenset()  # another kind of component, or one that Dapr cannot read either
    if not isinstance(address, str) or len(address) > LONGEST or not all(isinstance(part, str) for part in account):
        return frozenset()
    return frozenset("\n".join((kind, server, *map(str, account))) for server in _servers(kind, address, namespace))


def _servers(kind: str, address: str, namespace: str) -> Iterator[str]:
    for item in address.split(",")[:MOST_SERVERS]:
        try:
            url = urlsplit(item.strip() if "://" in item else f"//{item.strip()}")
            host, port = (url.hostname or "").rstrip("."), url.port or BROKERS[kind].port
        except ValueError:
            continue
        for suffix in _CLUSTER:
            host = host.removesuffix(suffix)
        if host:
            # `nats` refers to different Services in different namespaces.
            qualified = host if "." in host or ":" in host else f"{host}.{namespace}"
            yield f"{url.username or ''}:{url.password or ''}@{qualified}:{port}{url.path.rstrip('/')}"


def connected(accounts_by_namespace: Mapping[str, frozenset[str]], one: str, other: str) -> bool:
    """Return True if components of two namespaces use the same account of a broker."""
    none: frozenset[str] = frozenset()
    return not accounts_by_namespace.get(one, none).isdisjoint(accounts_by_namespace.get(other, none))
