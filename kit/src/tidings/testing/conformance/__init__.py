"""What any `tidings.sidecar.Sidecar` must do, as tests: run them against your own.

    class TestMyState(StateConformance):
        @pytest.fixture
        def world(self): ...

The suite holds the in-memory twin and real daprd to the same behaviour; a difference between stores that Dapr does not
level out is an attribute of the world, and the test then shows that the difference is there.
"""

from tidings.testing.conformance.pubsub import PubSubConformance, PubSubWorld
from tidings.testing.conformance.state import StateConformance, StateWorld
from tidings.testing.conformance.support import Recorder, event, poll, retry_policy, subscription, unique

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
