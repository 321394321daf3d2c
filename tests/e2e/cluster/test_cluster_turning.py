"""Another broker, by values only."""

from __future__ import annotations

import pytest
from tests.e2e.cluster.conftest import Guest, Installed


@pytest.mark.parametrize("broker", ["redis", "nats"])
def test_the_broker_is_switched_by_values(installed: Installed, guest: Guest, broker: str) -> None:
    installed.install_pizza("--set", f"broker.kind={broker}")
    installed.pizza.roll_out()
    installed.pizza.kubectl("wait", "--for=condition=Ready", "esub", "--all", "--timeout=120s")
    found = installed.pizza.kubectl("get", "component", "pubsub", "-o", "jsonpath={.spec.type}")
    assert found == {"redis": "pubsub.redis", "nats": "pubsub.jetstream"}[broker]
    guest.eaten(guest.order(), guest.order(deliver=False))
