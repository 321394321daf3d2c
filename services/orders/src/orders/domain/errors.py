"""Domain errors. Their messages may be shown to customers."""

from collections.abc import Iterable


class OrderError(Exception):
    """Base of all domain errors."""


class InvalidOrder(OrderError):
    """The order has no pizza, too many pizzas, or no delivery address."""


class UnknownSku(OrderError):
    """An ordered item is not on the menu."""

    def __init__(self, skus: Iterable[str]) -> None:
        super().__init__(f"not on the menu: {', '.join(sorted(skus))}; GET /menu lists all items")


class SoldOut(OrderError):
    """An ordered item is sold out."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(f"sold out: {', '.join(sorted(names))}; choose something else, or try again later")


class MenuMissing(OrderError):
    """No recipe has arrived from the menu service yet, so no order can be priced."""

    def __init__(self) -> None:
        super().__init__("the menu has not arrived yet; try again in a moment")


class KeyReused(OrderError):
    """The idempotency key was used for a different order."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key belongs to a different order; use a new key for a new order")


class OrderUnknown(OrderError):
    """There is no such order."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"there is no order {order_id}")


class TooLate(OrderError):
    """The customer can no longer cancel."""


class NotConfirmed(OrderError):
    """A step was reported for an order that is not confirmed."""
