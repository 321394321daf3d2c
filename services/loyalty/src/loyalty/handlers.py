"""What loyalty does about events, and how its queue is worked off."""

from __future__ import annotations

import structlog

from loyalty import events
from loyalty.commands import GivePoints, UpdateMember
from loyalty.consumed import OrderCompleted
from loyalty.domain import Gift, Member, Reason, Receipt, points_for
from loyalty.provider import Provider, Refused, Unavailable
from tidings import Handlers, Retry, RetryPolicy, StateContext

log = structlog.get_logger(__name__)

handlers = Handlers()

# Points are owed: as good as for ever, once a minute in the end.
_PATIENT = RetryPolicy(duration=1.0, max_interval=60.0, max_retries=1_000_000)


@handlers.on(OrderCompleted)
async def order_completed(event: OrderCompleted, context: StateContext) -> None:
    """Owe the customer the points. The message that gives them is stored with the debt: neither is lost alone."""
    points = points_for(event.total_cents)
    if not points or await context.load(Gift, event.order_id) is not None:
        return
    gift = Gift(order_id=event.order_id, customer_id=event.customer.customer_id, points=points, asked_at=context.now)
    context.save(gift.order_id, gift)
    context.schedule(GivePoints(order_id=gift.order_id))
    _update_member(gift, context)


@handlers.on(UpdateMember, once=False, concurrency=4)
async def update_member(event: UpdateMember, context: StateContext) -> None:
    """Keep a member's page right.

    The member is read before the gift, and always written: of two that run at the same time, the one that saw the
    older gift then loses its write and looks again.
    """
    member = await context.load(Member, event.customer_id)
    gift = await context.load(Gift, event.order_id)
    if gift is None:
        return
    member = member or Member(customer_id=event.customer_id, changed_at=context.now)
    member.reflect(gift, context.now)
    context.save(member.customer_id, member)


def queue(provider: Provider, concurrency: int) -> Handlers:
    """The handler that works the queue off, up to `concurrency` calls at a time."""
    found = Handlers()

    @found.on(GivePoints, concurrency=concurrency, retry=_PATIENT)
    async def give_points(event: GivePoints, context: StateContext) -> Retry | None:
        """Ask the provider, and tell what it has answered.

        A call whose answer or whose commit got lost is made again, and the provider knows the order.
        """
        gift = await context.load(Gift, event.order_id)
        if gift is None or not gift.waiting:
            return None
        try:
            _given(gift, await provider.give(gift), context)
        except Unavailable as error:
            return Retry(str(error), error.after)
        except Refused as error:
            log.warning("points.rejected", order_id=gift.order_id, points=gift.points, reason=str(error))
            _rejected(gift, error.reason, context)
        context.save(gift.order_id, gift)
        _update_member(gift, context)
        return None

    return found


def _given(gift: Gift, receipt: Receipt, context: StateContext) -> None:
    gift.give(receipt, context.now)
    context.publish(
        events.PointsAdded(
            customer_id=gift.customer_id,
            order_id=gift.order_id,
            points=gift.points,
            balance=receipt.balance,
            added_at=context.now,
        )
    )


def _rejected(gift: Gift, reason: Reason, context: StateContext) -> None:
    gift.reject(reason, context.now)
    context.publish(
        events.PointsRejected(
            customer_id=gift.customer_id,
            order_id=gift.order_id,
            points=gift.points,
            reason=reason,
            rejected_at=context.now,
        )
    )


def _update_member(gift: Gift, context: StateContext) -> None:
    context.schedule(UpdateMember(customer_id=gift.customer_id, order_id=gift.order_id))
