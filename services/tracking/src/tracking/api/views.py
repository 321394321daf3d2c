"""Response models of the API."""

from datetime import datetime

from tidings.fastapi import CamelModel
from tracking.domain import Stage, TrackedOrder, texts


class LineView(CamelModel):
    """Quantity of one kind of pizza."""

    sku: str
    name: str
    quantity: int
    unit_price_cents: int


class EntryView(CamelModel):
    """An entry of the timeline."""

    id: str
    type: str
    version: int
    time: datetime
    source: str
    words: str


class Summary(CamelModel):
    """Progress of an order: current stage and next step."""

    order_id: str
    stage: Stage
    finished: bool
    message: str
    next: str | None
    reason: str | None
    fulfilment: str | None
    total_cents: int | None
    lines: list[LineView]
    updated_at: datetime


class OrderView(Summary):
    """Progress of an order with its timeline, for its customer, who alone knows the order id.

    Attributes:
        pickup_code: Code for collecting the order, while it is on its shelf. Not part of any list of orders.

    """

    pickup_code: str | None
    timeline: list[EntryView]


class TotalsView(CamelModel):
    """Numbers of orders by state, and the revenue."""

    open: int
    done: int
    cancelled: int
    earned_cents: int


class Orders(CamelModel):
    """Orders, most recently changed first."""

    orders: list[Summary]


def summary(order: TrackedOrder) -> Summary:
    """Return an order without its timeline."""
    message, following = texts(order)
    content = order.content
    return Summary(
        order_id=order.order_id,
        stage=order.stage,
        finished=order.stage.finished,
        message=message,
        next=following,
        reason=order.reason,
        fulfilment=content.fulfilment if content else None,
        total_cents=content.total_cents if content else None,
        lines=[LineView.model_validate(line) for line in content.lines] if content else [],
        updated_at=order.updated_at,
    )


def order_view(order: TrackedOrder) -> OrderView:
    """Return an order with its timeline, and its pickup code while it is on its shelf."""
    timeline = [
        EntryView(id=it.id, type=it.type, version=it.version, time=it.time, source=it.source, words=it.description)
        for it in order.entries
    ]
    code = order.pickup_code if order.stage is Stage.SHELVED else None
    return OrderView(**dict(summary(order)), pickup_code=code, timeline=timeline)
