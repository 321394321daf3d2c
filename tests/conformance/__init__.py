"""Conformance tests for implementations of `tidings.dapr.Sidecar`.

    class TestMyState(StateConformance):
        @pytest.fixture
        def world(self): ...

The suite holds the in-memory twin and real daprd to the same behaviour; a difference between stores that Dapr does not
level out is an attribute of the world, and the test then shows that the difference is there.
"""

from tests.conformance.pubsub import PubSubConformance, PubSubWorld
from tests.conformance.state import StateConformance, StateWorld
from tests.conformance.support import Recorder, event, poll, retry_policy, subscription, unique

__all__ = [
    "PubSubConformance",
    "PubSubWorld",
    "Recorder",
    "StateConformance",
    "StateWorld",
    "event",
    "poll",
    "retry_policy",
    "subscription",
    "unique",
]
