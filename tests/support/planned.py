"""A service as the contracts plan it, on the sidecar's twin: tests deliver events, and read those it publishes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI

from tidings.messages.envelope import Envelope, new_id
from tidings.testing import MemoryBroker
from tidings_plan import plan
from tidings_plan.resources import contracts_folders, load

ROOT = Path(__file__).parents[2]
INVENTORY = load(contracts_folders(ROOT))
PLANNED = plan(INVENTORY)
PATIENCE = 12_000
"""Looks, 5 ms apart."""


class Planned:
    """An app on a broker. Subclasses start it and ask it."""

    def __init__(self, name: str, broker: MemoryBroker) -> None:
        self.name, self.broker = name, broker
        self.policy = PLANNED.apps[name].policy

    def attach(self, app: FastAPI) -> None:
        """Let the broker deliver to it what the plan says."""
        own = PLANNED.apps[self.name]
        self.broker.attach(self.name, app, own.subscriptions, resiliency=own.resiliency)

    async def receive(self, *facts: bytes) -> None:
        """Have events published, and wait until all are delivered."""
        for body in facts:
            self.broker.publish(msgspec.json.decode(body, type=Envelope).label, body)
        await self.broker.settle()

    def published_data(self, fact: str) -> list[dict[str, Any]]:
        """Return the data of every fact that the app published, once per id."""
        return list({event["id"]: event["data"] for event in self.broker.events(f"{self.name}.{fact}.v1")}.values())

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds."""
        for _ in range(PATIENCE):
            if holds():
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"it did not come about; published: {self.broker.topics}; {self.state()}")

    def state(self) -> str:
        """Return further state for the message of a failed wait."""
        return ""


def example(name: str, major: int) -> dict[str, Any]:
    """Return the data of a producer's first published example."""
    result = INVENTORY.type(("default", name))
    assert result is not None, f"nobody publishes {name}"
    version = next(item for item in result.spec.versions if item.major == str(major))
    first = version.examples[0]
    assert isinstance(first, dict)
    return first


def fact(name: str, major: int, *, identity: str = "", subject: str = "orderId", **changes: Any) -> bytes:
    """Return a producer's published example as an event, with changes; `subject` is the field that it is about."""
    data = {**example(name, major), **changes}
    return Envelope(
        id=identity or new_id(),
        source="test",
        type=name,
        specversion="1.0",
        version=str(major),
        subject=data[subject],
        correlationid=f"correlation of {data['orderId']}",
        datacontenttype="application/json",
        data=msgspec.Raw(msgspec.json.encode(data)),
    ).encode()
