"""Translation of orders into events and commands, and the messages for each status."""

import msgspec

from orders import events
from orders.commands import SendEmail, TakePayment, Template
from orders.domain import Cancellation, Fulfilment, Order, Reason, Status
from tidings import Context

EXPLANATIONS = {
    Reason.PAYMENT_REFUSED: "your payment was refused",
    Reason.PAYMENT_TIMEOUT: "your payment was not answered in time",
    Reason.CUSTOMER_CANCELLED: "you cancelled it",
    Reason.KITCHEN_CLOSED: "the kitchen is closed",
    Reason.ITEM_SOLD_OUT: "something you ordered has sold out",
    Reason.NO_DRIVER_AVAILABLE: "no driver was available",
    Reason.NOT_COLLECTED: "it was not collected",
    Reason.DELIVERY_FAILED: "it could not be delivered",
    Reason.SERVICE_UNAVAILABLE: "a service that was needed did not answer",
}


def publish_status(order: Order, context: Context) -> None:
    """Publish the messages for the status just reached. Some statuses have none."""
    if order.status is Status.CONFIRMED:
        context.publish(*confirmed(order))
        context.publish(email(order, "orderConfirmed"))
    elif order.status is Status.COMPLETED:
        context.publish(completed(order))
        context.publish(email(order, "orderCompleted"))
    elif order.cancellation is not None:
        context.publish(cancelled(order, order.cancellation))
        # Unpaid orders send no e-mail: otherwise anybody could make us write to any address they type in.
        if order.confirmed_at is not None:
            context.publish(email(order, "orderCancelled"))


def placed(order: Order) -> events.OrderPlaced:
    """Return the event for a placed order."""
    return msgspec.convert(order, events.OrderPlaced, from_attributes=True)


def confirmed(order: Order) -> tuple[events.OrderConfirmedV1, events.OrderConfirmed]:
    """Return the events for a confirmed order, in both published versions."""
    return (
        msgspec.convert(order, events.OrderConfirmedV1, from_attributes=True),
        msgspec.convert(order, events.OrderConfirmed, from_attributes=True),
    )


def completed(order: Order) -> events.OrderCompleted:
    """Return the event for a completed order."""
    return msgspec.convert(order, events.OrderCompleted, from_attributes=True)


def cancelled(order: Order, cancellation: Cancellation) -> events.OrderCancelled:
    """Return the event for a cancelled order."""
    return msgspec.convert(
        {
            "orderId": order.order_id,
            "customerId": order.customer.customer_id,
            "reason": cancellation.reason.value,
            "stage": cancellation.stage.value,
            "cancelledAt": cancellation.at,
        },
        events.OrderCancelled,
    )


def payment(order: Order, token: str) -> TakePayment:
    """Return the command that authorises the payment."""
    return TakePayment(
        order_id=order.order_id,
        customer_id=order.customer.customer_id,
        amount_cents=order.total_cents,
        payment_token=token,
    )


def email(order: Order, template: Template, **more: str) -> SendEmail:
    """Return the command that sends an e-mail. Its id makes each template go out once per order."""
    parameters = {
        "name": order.customer.name,
        "items": ", ".join(f"{line.quantity} x {line.name}" for line in order.lines),
        "total": f"{order.total_cents // 100}.{order.total_cents % 100:02} {order.currency}",
        "fulfilment": order.fulfilment.value,
    }
    if order.fulfilment is Fulfilment.DELIVERY and order.address is not None:
        parameters["address"] = f"{order.address.street}, {order.address.postcode} {order.address.city}"
    if order.cancellation is not None:
        reason = order.cancellation.reason
        parameters |= {"reason": reason.value, "explanation": EXPLANATIONS[reason]}
    return SendEmail(
        email_id=f"{order.order_id}-{template}",
        customer_id=order.customer.customer_id,
        to=order.customer.email,
        template=template,
        order_id=order.order_id,
        parameters={**parameters, **more},
    )
