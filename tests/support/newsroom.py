"""An archive with a console, on a SQLite file, and the whole pizza system's news to fill it with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from tests.support.contracts import contract_files
from tests.support.planned import INVENTORY, PLANNED

from tidings import Service, Settings
from tidings.fastapi import EventApp, create_app
from tidings.messages.envelope import new_id, timestamp
from tidings.outbox.table import TableOutbox
from tidings.testing import MemoryBroker, MemorySidecar
from tidings_archive import (
    access,
    api,
    api_deadletters,
    api_notices,
    api_replays,
    api_subscriptions,
    console,
    notices,
    responses,
)
from tidings_archive.events import Notice
from tidings_archive.handlers import handlers
from tidings_archive.migrations import upgrade
from tidings_archive.settings import ArchiveSettings, settings
from tidings_cli.testing.programs import Ports
from tidings_cli.testing.serving import Served
from tidings_plan import system_map

PATIENCE = 12_000  # looks, 5 ms apart
ARCHIVE = PLANNED.apps["archive"]
DELIVERY = (
    ("orders.orderPlaced.v1", 0.0),
    ("payments.takePayment.v1", 0.012),
    ("payments.paymentAuthorised.v1", 0.31),
    ("orders.orderConfirmed.v1", 0.36),
    ("orders.orderConfirmed.v2", 0.36),
    ("notifications.sendEmail.v1", 0.362),
    ("notifications.emailSent.v1", 0.7),
    ("kitchen.preparationStarted.v1", 1.4),
    ("kitchen.pizzaPrepared.v1", 2.5),
    ("kitchen.pizzaBaked.v1", 3.6),
    ("kitchen.qualityChecked.v1", 4.6),
    ("kitchen.pizzaBoxed.v1", 5.6),
    ("delivery.driverAssigned.v1", 5.9),
    ("delivery.orderCollected.v1", 7.0),
    ("delivery.orderDelivered.v1", 9.2),
    ("orders.orderCompleted.v1", 9.3),
    ("payments.paymentSettled.v1", 9.6),
    ("loyalty.pointsAdded.v1", 9.9),
)
"""The topics of an order that is delivered, and when each comes, in seconds."""


MAPS_OF_NO_USE = (
    b"",
    b'{"subscriptions": [',
    b'{"subscriptions": [{"name": "\xff"}]}',
    b"null",
    b'{"x":' + b"[" * 100_000,
    None,
)
"""What a file that ARCHIVE_MAP names may hold without being a system map; None: it is a folder."""


def contract_map() -> dict[str, Any]:
    """Return the pizza system's map."""
    return system_map(INVENTORY, PLANNED)


def application(service: Service, chosen: Callable[[], ArchiveSettings]) -> EventApp:
    """Return the archive's application, wired as its main module does."""
    parts = (api, api_deadletters, api_replays, api_subscriptions, api_notices)
    app = create_app(service, [part.router for part in parts], admit=access.admission(chosen), errors=responses.ERRORS)
    console.install(app)
    app.dependency_overrides[settings] = chosen
    return app


@cache
def migrated() -> bytes:
    """Return a SQLite file with the archive's tables, migrated once because that takes longer than most tests."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "archive.db")
        engine = sa.create_engine(f"sqlite:///{file}")
        with engine.begin() as connection:
            upgrade(connection)
        engine.dispose()
        return file.read_bytes()


class Newsroom:
    """One running archive."""

    def __init__(self, folder: Path, ports: Ports) -> None:
        self.broker = MemoryBroker()
        self.map = folder / "map.json"
        self.map.write_text(json.dumps(contract_map()))
        file = folder / "archive.db"
        file.write_bytes(migrated())
        self.service = Service(
            "archive",
            handlers,
            settings=Settings(tidings_instance="one"),
            sidecar=MemorySidecar("archive", self.broker),
            outbox=TableOutbox.on(f"sqlite:///{file}", tables=upgrade),
            policy=ARCHIVE.policy,
        )
        self.settings = ArchiveSettings(map=self.map)
        app = self.app = application(self.service, lambda: self.settings)
        self.broker.attach("archive", app, ARCHIVE.subscriptions, resiliency=ARCHIVE.resiliency)
        self._server = Served(app, ports.take())
        self._sender = MemorySidecar("orders", self.broker)

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncIterator[Newsroom]:
        """Run one as long as the block lasts."""
        with Ports() as ports:
            room = cls(folder, ports)
            await room._server.start()
            yield room
            await room._server.stop()

    @property
    def url(self) -> str:
        return f"{self._server.url}/console"

    async def receive(self, topic: str, **attributes: Any) -> dict[str, Any]:
        """Let one event arrive, with the data of its contract's example; answers it."""
        event = self.event(topic, **attributes)
        await self._sender.publish(topic, json.dumps(event).encode())
        await self.broker.settle()
        return event

    async def order(self, correlation: str, start: datetime | None = None) -> list[dict[str, Any]]:
        """Let all events of one delivered order arrive, each caused by the one before."""
        start = start or datetime.now(UTC) - timedelta(seconds=12)
        published: list[dict[str, Any]] = []
        for topic, after in DELIVERY:
            time = timestamp(start + timedelta(seconds=after))
            cause = published[-1]["id"] if published else ""
            about = {"correlationid": correlation, "causationid": cause, "subject": f"order-{correlation}"}
            published.append(await self.receive(topic, time=time, **about))
        return published

    async def died(self, app: str, topic: str, reason: str, **attributes: Any) -> dict[str, Any]:
        """Let a dead letter of an app arrive."""
        now = timestamp(datetime.now(UTC))
        failure = {
            "failurereason": reason,
            "failureclass": "Rejected",
            "failureattempts": "6",
            "failuretopic": topic,
            "failurefirst": now,
            "failurelast": now,
        }
        event = {**self.event(topic), **failure, **attributes}
        await self._sender.publish(f"deadletter.{app}", json.dumps(event).encode())
        await self.broker.settle()
        return event

    async def notify(self, notice: Notice) -> None:
        """Notify owners."""
        await self.service.execute(notices.notify, notice)

    def event(self, topic: str, **attributes: Any) -> dict[str, Any]:
        name, _, version = topic.rpartition(".v")
        examples = list(contract_files(f"examples/{topic}.json"))
        source = next(item.spec.producers[0] for item in INVENTORY.types.values() if item.spec.type == name)
        return {
            "specversion": "1.0",
            "id": new_id(),
            "type": name,
            "version": version,
            "source": source,
            "subject": "order-17",
            "correlationid": "c-17",
            "time": timestamp(datetime.now(UTC)),
            "data": json.loads(examples[0].read_text()) if examples else {"orderId": "o-17"},
            **attributes,
        }

    async def sent(self, app: str, count: int) -> list[dict[str, Any]]:
        """Wait for events that were replayed to an app and return them; the outbox sends after the response."""
        for _ in range(PATIENCE):
            if len(events := self.broker.events(f"replay.{app}")) >= count:
                return events
            await asyncio.sleep(0.005)
        raise AssertionError(f"{len(events)} events were sent to {app} again, not {count}")
