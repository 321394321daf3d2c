"""Components that use the same account of the same broker are detected, however their addresses are written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_plan.resources.accounts import accounts

JETSTREAM, REDIS, RABBITMQ, KAFKA = (f"pubsub.{item}" for item in ("jetstream", "redis", "rabbitmq", "kafka"))


def component(kind: str, **metadata: Any) -> dict[str, Any]:
    received = [
        {"name": name, **(value if isinstance(value, dict) else {"value": value})} for name, value in metadata.items()
    ]
    return {"kind": "Component", "metadata": {"name": "pubsub"}, "spec": {"type": kind, "metadata": received}}


SAME = [
    (component(JETSTREAM, natsURL="nats://u:p@nats.x:4222"), component(JETSTREAM, natsURL="nats://u:p@nats.x.svc")),
    (component(JETSTREAM, natsURL="nats://u:p@NATS.x."), component(JETSTREAM, natsURL="u:p@nats.x.svc.cluster.local")),
    (component(JETSTREAM, natsURL="nats://a.x,nats://b.x"), component(JETSTREAM, natsURL="nats://c.x, nats://b.x")),
    (component(REDIS, redisHost="redis.x:6379"), component(REDIS, redisHost="redis.x", redisPassword="p")),
    (component(RABBITMQ, connectionString="amqp://u:p@r.x/v"), component(RABBITMQ, connectionString="amqp://u:p@r.x:5672/v/")),
    (component(KAFKA, brokers="k.x:9092,l.x:9092"), component(KAFKA, brokers="l.x:9092")),
    (component(KAFKA, brokers="[fd00::1]:9092"), component(KAFKA, brokers="[fd00::1]")),
]  # fmt: skip
OTHER = [
    (component(JETSTREAM, natsURL="nats://u:p@nats"), component(JETSTREAM, natsURL="nats://u:p@nats")),  # two Services
    (component(JETSTREAM, natsURL="nats://u:p@n.x"), component(JETSTREAM, natsURL="nats://v:p@n.x")),
    (component(JETSTREAM, natsURL="nats://n.x", jwt="a"), component(JETSTREAM, natsURL="nats://n.x", jwt="b")),
    (component(REDIS, redisHost="r.x", redisDB="1"), component(REDIS, redisHost="r.x")),
    (component(REDIS, redisHost="r.x"), component(KAFKA, brokers="r.x:6379")),
    (component(RABBITMQ, connectionString="amqp://r.x/a"), component(RABBITMQ, connectionString="amqp://r.x/b")),
    (component(KAFKA, brokers="k.x", saslUsername="a"), component(KAFKA, brokers="k.x", saslUsername="b")),
]
SECRET = {"secretKeyRef": {"name": "broker", "key": "url"}}
UNKNOWN = [
    component(JETSTREAM, natsURL=SECRET),
    component(JETSTREAM, natsURL="nats://n.x", jwt=SECRET),
    component(JETSTREAM, natsURL=4222),
    component(JETSTREAM, natsURL="nats://" + "n" * 5_000),
    component(JETSTREAM, natsURL="nats://n.x:port"),
    component(JETSTREAM, natsURL="nats://[n.x"),
    component(JETSTREAM),
    component("pubsub.in-memory", natsURL="nats://n.x"),
    {"kind": "Component", "spec": None},
    {"spec": {"type": [], "metadata": "x"}},
    {"spec": {"type": JETSTREAM, "metadata": [None]}},
    None,
]


@pytest.mark.parametrize("pair", SAME, ids=str)
def test_one_account_however_it_is_written(pair: tuple[Any, Any]) -> None:
    assert accounts(pair[0], "a") & accounts(pair[1], "b")


@pytest.mark.parametrize("pair", OTHER, ids=str)
def test_accounts_that_are_kept_apart(pair: tuple[Any, Any]) -> None:
    one, other = accounts(pair[0], "a"), accounts(pair[1], "b")
    assert one
    assert other
    assert not one & other


@pytest.mark.parametrize("document", UNKNOWN, ids=lambda item: str(item)[:80])
def test_what_cannot_be_known_is_no_account(document: Any) -> None:
    assert accounts(document, "a") == frozenset()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.sampled_from([JETSTREAM, REDIS, RABBITMQ, KAFKA]), st.text(max_size=80) | anything, anything)
def test_any_component_of_a_tenant_is_read(kind: str, address: Any, rest: Any) -> None:
    document = component(kind, natsURL=address, redisHost=address, connectionString=address, brokers=address)
    accounts(document, "a")
    accounts({**document, "spec": {"type": kind, "metadata": rest}}, "a")
    accounts({"spec": {"type": rest, "metadata": [rest]}}, "a")
