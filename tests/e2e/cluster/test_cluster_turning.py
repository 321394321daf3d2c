"""Another broker, and two of everything, by values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from tests.e2e.cluster.conftest import HERE, Guest, Installed
from tests.support.livecluster import check_images

RABBITMQ = HERE / "rabbitmq.yaml"
OWN = ["broker.existingSecret=rabbitmq", "broker.egressTo[0].podSelector.matchLabels.app=rabbitmq"]
BROKERS = {"redis": ("pubsub.redis", []), "rabbitmq": ("pubsub.rabbitmq", OWN), "nats": ("pubsub.jetstream", [])}
ONE_OF_EACH = {"nats", "redis", "postgres", "topology", "saas", "smtp"}
"""What the chart ships to try it on, and the topology controller, which nobody waits for while the next one starts."""


@pytest.fixture(scope="module")
def rabbitmq(installed: Installed) -> Iterator[None]:
    check_images(installed.pizza.context, RABBITMQ.read_text())
    installed.pizza.kubectl("apply", "-f", str(RABBITMQ))
    installed.pizza.roll_out()
    yield
    installed.pizza.kubectl("delete", "-f", str(RABBITMQ))


@pytest.mark.parametrize("broker", BROKERS)
@pytest.mark.usefixtures("rabbitmq")
def test_the_broker_is_switched_by_values(installed: Installed, guest: Guest, broker: str) -> None:
    component, more = BROKERS[broker]
    installed.install_pizza(*(word for item in (f"broker.kind={broker}", *more) for word in ("--set", item)))
    installed.pizza.roll_out()
    installed.pizza.kubectl("wait", "--for=condition=Ready", "esub", "--all", "--timeout=120s")
    assert installed.pizza.kubectl("get", "component", "pubsub", "-o", "jsonpath={.spec.type}") == component
    guest.eaten(guest.order(), guest.order(deliver=False))


def test_two_of_everything(installed: Installed, guest: Guest) -> None:
    installed.install_tidings("--set", "replicas=2,archive.replicas=2,archive.databaseSecret=pizza-postgres")
    installed.install_pizza("--set", "defaults.replicas=2,postgres.enabled=true")
    installed.pizza.roll_out()
    pods = [*installed.pizza.pods(), *installed.tidings.pods()]
    many = Counter(pod.metadata.labels.get("app.kubernetes.io/name", "") for pod in pods)
    del many["archive-contracts"]  # the finished Job
    del many[""]  # the RabbitMQ
    assert {name for name, copies in many.items() if copies == 2} == many.keys() - ONE_OF_EACH, many
    assert {many[name] for name in ONE_OF_EACH} == {1}, many
    installed.pizza.kubectl("wait", "--for=condition=Ready", "esub", "--all", "--timeout=120s")
    guest.eaten(guest.order(), guest.order(deliver=False))
