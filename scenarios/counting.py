"""Numbered events through two services, sender and receiver: count sent, received, lost and doubled ones.

The services are in tests/chaos/numbered. Sending is idempotent: the sender stores the progress of each parcel, so that
requests can be repeated after any error. The receiver counts each number in the unit of work that handles it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import httpx2

PARCEL = 100
URLs = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Report:
    """Counts of numbers. `lost` and `doubled` list them as parcel/number."""

    sent: int = 0
    received: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"sent {self.sent}, received {self.received}, "
            f"lost {len(self.lost)}{_some(self.lost)}, doubled {len(self.doubled)}{_some(self.doubled)}"
        )

    def __add__(self, other: Report) -> Report:
        return Report(
            self.sent + other.sent,
            self.received + other.received,
            self.lost + other.lost,
            self.doubled + other.doubled,
        )

    @property
    def faultless(self) -> bool:
        return self.sent > 0 and not self.lost and not self.doubled


def _some(names: list[str]) -> str:
    return f" (such as {', '.join(names[:5])})" if names else ""


@dataclass(frozen=True, slots=True)
class Numbers:
    """HTTP client of the two services; `url` returns the current address of a service."""

    url: URLs
    client: httpx2.AsyncClient

    async def send(
        self,
        parcels: Iterable[str],
        *,
        size: int = PARCEL,
        poisoned: int = -1,
        at_once: int = 1,
        pause: float = 0.0,
        concurrency: int = 4,
        patience: float = 120.0,
    ) -> None:
        """Send all parcels completely, `pause` seconds between numbers, despite failures of the services.

        Raises:
            TimeoutError: A parcel could not be sent within `patience` seconds.

        """
        waiting = list(reversed(list(parcels)))
        options = {"size": size, "poisoned": poisoned, "at_once": at_once, "pause": pause}

        async def work() -> None:
            while waiting:
                await self._send(waiting.pop(), options, patience)

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())

    async def _send(self, parcel: str, options: dict[str, float], patience: float) -> None:
        async with asyncio.timeout(patience):
            while True:
                try:
                    answer = await self.client.post(f"{self.url('sender')}/parcels/told/{parcel}", params=options)
                except httpx2.TransportError:
                    answer = None
                if answer is not None and answer.is_success:
                    return
                await asyncio.sleep(0.1)

    async def report(self, parcels: Iterable[str], *, size: int = PARCEL, poisoned: int = -1) -> Report:
        """Return the current counts; a poisoned number counts as doubled if it was handled."""
        total = Report()
        for parcel in parcels:
            total += _judged(parcel, await self._counted(parcel), size, poisoned)
        return total

    async def settled(
        self, parcels: Iterable[str], *, size: int = PARCEL, poisoned: int = -1, patience: float = 90.0
    ) -> Report:
        """Return the counts once all numbers have arrived, or none has for `patience` seconds."""
        waiting, done = list(parcels), Report()
        last, received = time.monotonic(), -1
        while waiting:
            reports = {parcel: await self.report([parcel], size=size, poisoned=poisoned) for parcel in waiting}
            done = sum((report for report in reports.values() if not report.lost), done)
            waiting = [parcel for parcel, report in reports.items() if report.lost]
            now = done.received + sum(reports[parcel].received for parcel in waiting)
            if now != received:
                last, received = time.monotonic(), now
            elif time.monotonic() - last > patience:
                return sum((reports[parcel] for parcel in waiting), done)
            await asyncio.sleep(0.2)
        return done

    async def _counted(self, parcel: str, patience: float = 60.0) -> dict[int, int]:
        end = time.monotonic() + patience
        while True:
            try:
                answer = await self.client.get(f"{self.url('receiver')}/parcels/told/{parcel}")
                counted: dict[str, int] = answer.raise_for_status().json()["counted"]
            except httpx2.HTTPError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.2)
            else:
                return {int(number): times for number, times in counted.items()}


def _judged(parcel: str, counted: dict[int, int], size: int, poisoned: int) -> Report:
    due = set(range(size)) - {poisoned}
    return Report(
        sent=size,
        received=sum(counted.values()),
        lost=[f"{parcel}/{number}" for number in sorted(due - counted.keys())],
        doubled=[f"{parcel}/{number}" for number, times in counted.items() if times > 1 or number not in due],
    )
