"""Tells the numbers of parcels, each parcel in exactly one unit of work, however often it is asked to."""

from __future__ import annotations

import os

import sqlalchemy as sa
from fastapi import APIRouter

from tidings import Event, Service, event
from tidings.fastapi import CurrentService, create_app
from tidings.outbox.sql import insert_new
from tidings.outbox.table import SqlContext, TableOutbox

PARCEL, TOPICS = 100, 16
metadata = sa.MetaData()
told = sa.Table("told", metadata, sa.Column("parcel", sa.Integer, primary_key=True))
router = APIRouter()


class _Number(Event):
    parcel: int
    number: int


KINDS: list[type[_Number]] = [
    event(f"streamed.number{topic}Told", subject="parcel")(type("Told", (_Number,), {})) for topic in range(TOPICS)
]


async def tell(parcel: int, context: SqlContext) -> None:
    """Tell all numbers of a parcel, unless that has been done."""
    if await insert_new(context.connection, told, {"parcel": parcel}):
        for number in range(PARCEL):
            context.publish(KINDS[number % TOPICS](parcel=parcel, number=number))


@router.post("/parcels/{first}/{end}")
async def post_parcels(first: int, end: int, service: CurrentService) -> int:
    """Tell those parcels, `end` not included; answers how many numbers that are."""
    for parcel in range(first, end):
        await service.execute(tell, parcel)
    return (end - first) * PARCEL


DATABASE = f"sqlite:///{os.environ.get('TIDINGS_DATA', '.')}/teller.db"
app = create_app(Service("teller", outbox=TableOutbox.on(DATABASE, tables=metadata)), [router])
