"""Events for the changes of a payment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from payments import events
from payments.domain import Movement, Payment, Refusal


def moved(payment: Payment, movement: Movement, now: datetime) -> object:
    """Return the event for a movement of money."""
    common: dict[str, Any] = {
        "payment_id": payment.payment_id,
        "order_id": payment.order_id,
        "amount_cents": payment.amount_cents,
    }
    match movement:
        case Movement.AUTHORISED:
            return events.PaymentAuthorised(**common, authorised_at=now)
        case Movement.SETTLED:
            return events.PaymentSettled(**common, settled_at=now)
        case Movement.VOIDED:
            return events.PaymentVoided(**common, voided_at=now)
        case Movement.REFUNDED:
            return events.PaymentRefunded(**common, refunded_at=now)


def refused(payment: Payment, reason: Refusal, now: datetime) -> events.PaymentRefused:
    """Return the event for a refused payment."""
    return events.PaymentRefused(
        payment_id=payment.payment_id, order_id=payment.order_id, reason=reason.value, refused_at=now
    )
