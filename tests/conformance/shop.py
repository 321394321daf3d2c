"""The app of the outbox conformance suite: it counts items, in documents or in rows, and publishes their totals."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from tidings import Context, Event, StateContext, event
from tidings.messages.envelope import Envelope, new_id
from tidings.outbox.table import SqlContext

TOPIC = "shop.totalChanged.v1"
PATH = "/events/shop.itemCounted.v1"


@event("shop.itemCounted", subject="item")
class Counted(Event, kw_only=True):
    """Adds one to an item's total."""

    item: str
    number: int


@event("shop.totalChanged", subject="item")
class Changed(Event, kw_only=True):
    """An item's total; with a strategy that stores nothing, the number of its cause."""

    item: str
    total: int


class Total(msgspec.Struct):
    """An item's total as a document."""

    count: int = 0


tables = sa.MetaData()
totals = sa.Table(
    "totals", tables, sa.Column("item", sa.Text, primary_key=True), sa.Column("total", sa.Integer, nullable=False)
)


async def count_document(message: Counted, context: StateContext) -> None:
    """Add one in a document."""
    total = await context.load(Total, message.item) or Total()
    total.count += 1
    context.save(message.item, total)
    context.publish(Changed(item=message.item, total=total.count))


async def bump(item: str, context: SqlContext) -> int:
    """Add one in a row; the item's total."""
    this = totals.c.item == item
    bumped = sa.update(totals).where(this).values(total=totals.c.total + 1).returning(totals.c.total)
    total: int | None = (await context.connection.execute(bumped)).scalar()
    if total is None:
        total = 1
        await context.connection.execute(sa.insert(totals).values(item=item, total=total))
    return total


async def count_row(message: Counted, context: SqlContext) -> None:
    """Add one in a row, and publish it."""
    context.publish(Changed(item=message.item, total=await bump(message.item, context)))


async def pass_on(message: Counted, context: Context) -> None:
    """Tell what came, and keep nothing."""
    context.publish(Changed(item=message.item, total=message.number))


def counted(item: str = "apple", number: int = 1) -> Envelope:
    """Return an event to deliver."""
    data = msgspec.Raw(msgspec.json.encode({"item": item, "number": number}))
    names = {"source": "test", "type": "shop.itemCounted", "specversion": "1.0", "version": "1"}
    return Envelope(id=new_id(), correlationid="c", data=data, **names)
