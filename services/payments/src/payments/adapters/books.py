"""Storage of payments and ledger postings."""

from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from payments.adapters import tables
from payments.domain import Account, Movement, Payment, Status, Totals, postings
from tidings.outbox.sql import insert_new


async def find(connection: AsyncConnection, order_id: str) -> Payment | None:
    """Return the payment of an order, or None."""
    return await _read(connection, sa.select(tables.payments).where(tables.payments.c.order_id == order_id))


async def claim(connection: AsyncConnection, order_id: str, payment_id: str, now: datetime) -> Payment:
    """Return the payment of an order, created if necessary, and lock it until the end of the transaction.

    Other messages about the same order wait for the lock, on this and on other replicas.
    """
    locked = sa.select(tables.payments).where(tables.payments.c.order_id == order_id).with_for_update()
    existing = await _read(connection, locked)
    if existing is not None:
        return existing
    new = Payment(payment_id=payment_id, order_id=order_id, changed_at=now)
    if await insert_new(connection, tables.payments, _row(new)):
        return new
    # A concurrent transaction has inserted the row, and the insert waited for its end: the row can be read now.
    return cast("Payment", await _read(connection, locked))


async def update(connection: AsyncConnection, payment: Payment) -> None:
    """Update a claimed payment."""
    row = tables.payments.c.order_id == payment.order_id
    await connection.execute(sa.update(tables.payments).where(row).values(_row(payment)))


async def book(connection: AsyncConnection, payment: Payment, movement: Movement, now: datetime) -> None:
    """Book a movement of the full amount of a payment."""
    common = {"payment_id": payment.payment_id, "order_id": payment.order_id, "movement": movement}
    rows = [
        {**common, "account": account, "amount_cents": cents, "booked_at": now.timestamp()}
        for account, cents in postings(movement, payment.amount_cents or 0).items()
    ]
    await connection.execute(sa.insert(tables.postings), rows)


async def totals(connection: AsyncConnection) -> Totals:
    """Return the totals of the ledger, from one statement and thus one snapshot."""
    booked = tables.postings.c
    sums = sa.select(booked.movement, booked.account, sa.func.sum(booked.amount_cents))
    rows = await connection.execute(sums.group_by(booked.movement, booked.account))
    return Totals.of((Movement(movement), cast("Account", account), int(cents)) for movement, account, cents in rows)


async def counts(connection: AsyncConnection) -> dict[Status, int]:
    """Return the number of payments by status."""
    status = tables.payments.c.status
    rows = await connection.execute(sa.select(status, sa.func.count()).group_by(status))
    return dict.fromkeys(Status, 0) | {Status(name): count for name, count in rows}


def _row(payment: Payment) -> dict[str, Any]:
    return {**msgspec.structs.asdict(payment), "changed_at": payment.changed_at.timestamp()}


async def _read(connection: AsyncConnection, query: sa.Select[Any]) -> Payment | None:
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        return None
    values = {str(name): value for name, value in row.items()}  # SQLAlchemy's keys are not plain strings
    return msgspec.convert({**values, "changed_at": datetime.fromtimestamp(row["changed_at"], UTC)}, Payment)
