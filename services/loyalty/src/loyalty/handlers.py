"""Handlers of loyalty for events and for its queue in front of the SaaS."""

import structlog

from loyalty import events
from loyalty.commands import AwardPoints, UpdateMember
from loyalty.consumed import OrderCompleted
from loyalty.domain import Award, Member, Provider, Reason, Receipt, Refused, Unavailable, points_for
from tidings import Handlers, Retry, RetryPolicy, StateContext

log = structlog.get_logger(__name__)

handlers = Handlers()

# Points are owed to the customer, so the award is retried practically for ever, in the end once a minute.
_RETRY = RetryPolicy(duration=1.0, max_interval=60.0, max_retries=1_000_000)


@handlers.on(OrderCompleted)
async def order_completed(event: OrderCompleted, context: StateContext) -> None:
    """Store the award and, in the same commit, schedule the message that carries it out."""
    points = points_for(event.total_cents)
    if not points or await context.load(Award, event.order_id) is not None:
        return
    award = Award(order_id=event.order_id, customer_id=event.customer.customer_id, points=points, asked_at=context.now)
    context.save(award.order_id, award)
    context.schedule(AwardPoints(order_id=award.order_id))
    _update_member(award, context)


@handlers.on(UpdateMember, deduplicate=False, concurrency=4)
async def update_member(event: UpdateMember, context: StateContext) -> None:
    """Update a member from the current state of an award."""
    # Read the member before the award and always write it. Of two concurrent updates, the one that read the older
    # award then gets a conflict and is retried.
    member = await context.load(Member, event.customer_id)
    award = await context.load(Award, event.order_id)
    if award is None:
        return
    member = member or Member(customer_id=event.customer_id, changed_at=context.now)
    member.apply(award, context.now)
    context.save(member.customer_id, member)


def queue(provider: Provider, concurrency: int) -> Handlers:
    """Return the handler of the queue, which makes up to `concurrency` calls at a time."""
    queue_handlers = Handlers()

    @queue_handlers.on(AwardPoints, concurrency=concurrency, retry=_RETRY)
    async def award_points(event: AwardPoints, context: StateContext) -> Retry | None:
        """Award the points through the provider, and publish the outcome."""
        # A call whose response or commit is lost is repeated. The provider deduplicates by order id.
        award = await context.load(Award, event.order_id)
        if award is None or not award.waiting:
            return None
        try:
            _record_given(award, await provider.give(award), context)
        except Unavailable as error:
            return Retry(str(error), error.after)
        except Refused as error:
            log.warning("points.rejected", order_id=award.order_id, points=award.points, reason=str(error))
            _record_rejected(award, error.reason, context)
        context.save(award.order_id, award)
        _update_member(award, context)
        return None

    return queue_handlers


def _record_given(award: Award, receipt: Receipt, context: StateContext) -> None:
    award.give(receipt, context.now)
    context.publish(
        events.PointsAdded(
            customer_id=award.customer_id,
            order_id=award.order_id,
            points=award.points,
            balance=receipt.balance,
            added_at=context.now,
        )
    )


def _record_rejected(award: Award, reason: Reason, context: StateContext) -> None:
    award.reject(reason, context.now)
    context.publish(
        events.PointsRejected(
            customer_id=award.customer_id,
            order_id=award.order_id,
            points=award.points,
            reason=reason,
            rejected_at=context.now,
        )
    )


def _update_member(award: Award, context: StateContext) -> None:
    context.schedule(UpdateMember(customer_id=award.customer_id, order_id=award.order_id))
