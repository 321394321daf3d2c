"""Counts the numbers that it receives, in one document per parcel, so that missing and repeated numbers show."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import APIRouter
from msgspec import field

from tidings import Event, Handlers, Rejected, Service, StateContext, event
from tidings.fastapi import CurrentService, create_app

WORK = float(os.environ.get("RECEIVER_WORK", "0"))
"""Seconds that a limited number takes."""


class _Number(Event):
    parcel: str
    number: int
    poison: bool


@event("sender.numberTold")
class NumberTold(_Number):
    """Taken without limits."""


@event("sender.numberPaced")
class NumberPaced(_Number):
    """Taken at one a second."""


@event("sender.numberShared")
class NumberShared(_Number):
    """Taken by two at once."""


@event("sender.numberQueued")
class NumberQueued(_Number):
    """Taken one after the other within a parcel."""


class Tally(Event):
    """Counts of a parcel's numbers, and the order in which they first arrived."""

    counted: dict[int, int] = field(default_factory=dict)
    order: tuple[int, ...] = ()


class Watch:
    """Observations of this process: when handlers started, and how many ran concurrently."""

    def __init__(self) -> None:
        self.began: defaultdict[str, list[float]] = defaultdict(list)
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    @contextmanager
    def handling(self, *names: str) -> Iterator[None]:
        """Count it under its kind, and under its kind and parcel."""
        self.began[names[0]].append(time.time())
        self.running.update(names)
        for name in names:
            self.most[name] = max(self.most[name], self.running[name])
        try:
            yield
        finally:
            self.running.subtract(names)


watch = Watch()
handlers = Handlers()
router = APIRouter()


async def count(number: _Number, context: StateContext) -> None:
    """Count it."""
    if number.poison:
        raise Rejected("poison")
    key = f"{kind_of(number)}-{number.parcel}"
    tally = await context.load(Tally, key) or Tally()
    times = {**tally.counted, number.number: tally.counted.get(number.number, 0) + 1}
    context.save(key, Tally(counted=times, order=(*tally.order, number.number)))


def kind_of(number: _Number) -> str:
    """Return the kind of an event, such as `told` or `paced`."""
    return type(number).__name__.removeprefix("Number").lower()


@handlers.on(NumberTold)
async def told(number: NumberTold, context: StateContext) -> None:
    """Count it at once."""
    with watch.handling("told"):
        await count(number, context)


@handlers.on(NumberPaced, NumberShared, NumberQueued)
async def limited(number: NumberPaced | NumberShared | NumberQueued, context: StateContext) -> None:
    """Count it, after some work."""
    kind = kind_of(number)
    with watch.handling(kind, f"{kind}/{number.parcel}"):
        await asyncio.sleep(WORK)
        await count(number, context)


@router.get("/parcels/{kind}/{parcel}")
async def get_parcel(kind: str, parcel: str, service: CurrentService) -> dict[str, object]:
    """Answer how often each number has counted."""

    async def look(_: None, context: StateContext) -> Tally:
        return await context.load(Tally, f"{kind}-{parcel}") or Tally()

    tally = await service.execute(look, None)
    return {"counted": tally.counted, "order": tally.order}


@router.get("/watched/{kind}")
async def get_watched(kind: str) -> dict[str, object]:
    """Answer what this process has seen since it began."""
    parcels = max((most for name, most in watch.most.items() if name.startswith(f"{kind}/")), default=0)
    return {"began": watch.began[kind], "mostAtOnce": watch.most[kind], "mostOfOneParcel": parcels}


app = create_app(Service("receiver", handlers), [router])
