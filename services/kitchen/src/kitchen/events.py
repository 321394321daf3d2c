"""Events published by the kitchen."""

from typing import Annotated, Literal

from kitchen.domain import Fulfilment, Refusal, Role
from tidings import PERSONAL, SUBJECT, Event, Moment, event


@event("kitchen.preparationStarted", subject="order_id")
class PreparationStarted(Event):
    """A cook has started the order."""

    order_id: str
    started_at: Moment


@event("kitchen.pizzaPrepared", subject="order_id")
class PizzaPrepared(Event):
    """Dough is rolled and topped; the pizzas can go into the oven."""

    order_id: str
    prepared_at: Moment


@event("kitchen.pizzaBaked", subject="order_id")
class PizzaBaked(Event):
    """The pizzas are out of the oven."""

    order_id: str
    baked_at: Moment


@event("kitchen.qualityChecked", subject="order_id")
class QualityChecked(Event):
    """The order was checked. If it failed, it is baked again, and after every second failure prepared again."""

    order_id: str
    passed: bool
    attempt: int
    checked_at: Moment


@event("kitchen.pizzaBoxed", subject="order_id")
class PizzaBoxed(Event):
    """All pizzas of the order are boxed and leave the kitchen."""

    order_id: str
    fulfilment: Fulfilment
    boxes: int
    boxed_at: Moment


@event("kitchen.orderRejected", subject="order_id")
class OrderRejected(Event):
    """The kitchen rejected the order; `skus` are the items that cannot be made."""

    order_id: str
    reason: Refusal
    rejected_at: Moment
    skus: tuple[str, ...] = ()


@event("kitchen.preparationStopped", subject="order_id")
class PreparationStopped(Event):
    """The order was cancelled while in work; `stage` is the status it had reached."""

    order_id: str
    stage: Literal["preparing", "prepared", "baked", "checked"]
    stopped_at: Moment


@event("kitchen.ingredientRanOut", subject="ingredient")
class IngredientRanOut(Event):
    """An ingredient has run out."""

    ingredient: str
    ran_out_at: Moment


@event("kitchen.ingredientDelivered", subject="ingredient")
class IngredientDelivered(Event):
    """An ingredient that had run out is available again."""

    ingredient: str
    delivered_at: Moment


@event("staff.memberClockedIn", subject="member_id")
class MemberClockedIn(Event):
    """A member of staff has clocked in."""

    member_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]
    role: Role
    at: Moment


@event("staff.memberClockedOut", subject="member_id")
class MemberClockedOut(Event):
    """A member of staff has clocked out."""

    member_id: Annotated[str, SUBJECT]
    at: Moment
