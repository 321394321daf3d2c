"""Keeps a row for each time that a number has counted: one that counted twice shows, as does one that did not."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import msgspec
import sqlalchemy as sa
from fastapi import APIRouter

from tidings import Handlers, Received, Service
from tidings.fastapi import CurrentService, create_app
from tidings.outbox.table import SqlContext, TableOutbox

metadata = sa.MetaData()
counted = sa.Table(
    "counted",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parcel", sa.Integer, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Index("counted_parcel", "parcel", "number"),
)
handlers = Handlers()
router = APIRouter()


class Number(msgspec.Struct, frozen=True):
    """A numbered event of a parcel."""

    parcel: int
    number: int


_number = msgspec.json.Decoder(Number)


@handlers.any("keeper-streamed", batch_size=100)
async def keep(events: list[Received], context: SqlContext) -> None:
    """Count each."""
    rows = [msgspec.structs.asdict(_number.decode(item.envelope.data)) for item in events]
    await context.connection.execute(sa.insert(counted), rows)


async def _read(service: Service, statement: sa.Select[Any]) -> list[Any]:
    if not isinstance(service.outbox, TableOutbox):
        raise TypeError("keeper counts in a table")
    async with service.outbox.database.connect(write=False) as connection:
        return list((await connection.execute(statement)).all())


@router.get("/parcels/{first}/{end}")
async def get_parcels(first: int, end: int, service: CurrentService) -> int:
    """Return how often numbers of these parcels have been counted, without `end`."""
    within = counted.c.parcel.between(first, end - 1)
    [(result,)] = await _read(service, sa.select(sa.func.count()).select_from(counted).where(within))
    return int(result)


@router.get("/parcels/{first}/{end}/judged")
async def get_judged(first: int, end: int, size: int, service: CurrentService) -> dict[str, list[str]]:
    """Return the numbers of these parcels that were not counted, and those counted more than once."""
    rows = await _read(service, sa.select(counted).where(counted.c.parcel.between(first, end - 1)))
    times = Counter((row.parcel, row.number) for row in rows)
    due = {(parcel, number) for parcel in range(first, end) for number in range(size)}
    return {
        "lost": [f"{parcel}/{number}" for parcel, number in sorted(due - times.keys())],
        "doubled": [f"{parcel}/{number}" for (parcel, number), n in times.items() if n > 1],
    }


DATABASE = f"sqlite:///{os.environ.get('TIDINGS_DATA', '.')}/keeper.db"
app = create_app(Service("keeper", handlers, outbox=TableOutbox.on(DATABASE, tables=metadata)), [router])
