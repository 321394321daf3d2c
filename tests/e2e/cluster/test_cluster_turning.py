"""Another broker, and two replicas of everything, chosen by the charts' values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from tests.e2e.cluster.conftest import HERE, Guest, Installed
from tests.support.livecluster import check_images, until

OWN = ("rabbitmq", "kafka")
"""Brokers beside the release."""
BROKERS = {
    "redis": "pubsub.redis",
    "rabbitmq": "pubsub.rabbitmq",
    "kafka": "pubsub.kafka",
    "nats": "pubsub.jetstream",
}
ONE_OF_EACH = {"nats", "redis", "postgres", "topology", "saas", "smtp"}
"""What the chart ships to try it on, and the topology controller, which nobody waits for while the next one starts."""


@pytest.fixture(scope="module", autouse=True)
def own_brokers(installed: Installed) -> Iterator[None]:
    """Take away what runs beside the release once it is used no more."""
    yield
    for name in OWN:
        installed.apps.kubectl("delete", "-f", str(HERE / f"{name}.yaml"), "--ignore-not-found")


@pytest.fixture(params=BROKERS)
def broker(installed: Installed, request: pytest.FixtureRequest) -> str:
    """Switch to a broker, which is started beside the release where the chart brings none."""
    name = str(request.param)
    value = [f"broker.kind={name}", "kafka.replicas=1"]
    if name in OWN:
        manifest = HERE / f"{name}.yaml"
        check_images(installed.apps.context, manifest.read_text())
        installed.apps.kubectl("apply", "-f", str(manifest))
        installed.apps.kubectl("rollout", "status", f"deployment/{name}", "--timeout=300s")
        value += [f"broker.existingSecret={name}", f"broker.egressTo[0].podSelector.matchLabels.app={name}"]
    installed.install_pizza(*(word for item in value for word in ("--set", item)))
    # The archive belongs to another release; a sidecar that reloads components and Resiliency at once may hang.
    installed.apps.kubectl("rollout", "restart", "deployment/archive")
    installed.apps.roll_out()
    return name


def test_the_broker_is_switched_by_values(installed: Installed, guest: Guest, broker: str) -> None:
    installed.apps.kubectl("wait", "--for=condition=Ready", "esub", "--all", "--timeout=120s")
    assert installed.apps.kubectl("get", "component", "pubsub", "-o", "jsonpath={.spec.type}") == BROKERS[broker]
    guest.eaten(guest.order(), guest.order(deliver=False))


@pytest.fixture
def doubled(installed: Installed) -> Iterator[None]:
    """Run two replicas of everything; afterwards one, and an archive without the PostgreSQL of the upgrade."""
    installed.install_tidings("--set", "replicas=2,archive.replicas=2,archive.databaseSecret=pizza-postgres")
    installed.install_pizza("--set", "defaults.replicas=2,postgres.enabled=true")
    installed.apps.roll_out()
    yield
    installed.install_tidings()
    installed.install_pizza()
    installed.apps.roll_out()


def test_two_of_everything(installed: Installed, guest: Guest, doubled: None) -> None:
    # A replaced workload's pods go after those of its successor are ready.
    until("there are two pods of each service", lambda: all(copies == wanted for copies, wanted in _copies(installed)))
    installed.apps.kubectl("wait", "--for=condition=Ready", "esub", "--all", "--timeout=120s")
    guest.eaten(guest.order(), guest.order(deliver=False))


def _copies(installed: Installed) -> list[tuple[int, int]]:
    """Return the number of pods that each workload has, with the number that it should have."""
    pods = [*installed.apps.pods(), *installed.tidings.pods()]
    copies = Counter(pod.metadata.labels.get("app.kubernetes.io/name", "") for pod in pods)
    assert copies.keys() >= ONE_OF_EACH
    others = {"archive-contracts", ""}  # the finished Job; RabbitMQ and Kafka
    return [(copies[name], 1 if name in ONE_OF_EACH else 2) for name in copies.keys() - others]
