"""The conformance suite's world on a real sidecar, broker and store."""

from __future__ import annotations

from typing import Any

from tests.conformance import Recorder, unique
from tests.conformance.processes import Failing
from tests.conformance.worlds import World

from tidings.dapr.client import DaprSidecar


class RealWorld(World):
    """An app's sidecar, and another app that records the events it receives."""

    def __init__(self, address: str, recorder: Recorder) -> None:
        super().__init__()
        self.name = unique("shop")
        self.address = address
        self.recorder = recorder

    def sidecar(self) -> Failing:
        return Failing(DaprSidecar(self.address))

    async def published(self) -> list[dict[str, Any]]:
        return [item for item in self.recorder.at("/watch") if item["source"] == self.name]

    def forget_published(self) -> None:
        self.recorder.received.clear()
        self.recorder.headers.clear()
