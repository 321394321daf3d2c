"""What an order refuses, in words that the customer can be shown."""

from __future__ import annotations

from collections.abc import Iterable


class OrderError(Exception):
    """Base of all refusals."""


class InvalidOrder(OrderError):
    """Nobody could carry out such an order: no pizza, too many, or no address to deliver to."""


class UnknownSku(OrderError):
    """Something was ordered that is on no menu."""

    def __init__(self, skus: Iterable[str]) -> None:
        super().__init__(f"not on the menu: {', '.join(sorted(skus))}; GET /menu lists what is")


class SoldOut(OrderError):
    """Something was ordered that is not to be had now."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(f"sold out: {', '.join(sorted(names))}; choose something else, or come back later")


class MenuMissing(OrderError):
    """No recipe has arrived from the menu service yet: nothing has a price."""

    def __init__(self) -> None:
        super().__init__("the menu has not arrived yet; try again in a moment")


class KeyReused(OrderError):
    """The same idempotency key came with a different order."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key belongs to a different order; use a new key for a new order")


class OrderUnknown(OrderError):
    """There is no such order."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"there is no order {order_id}")


class TooLate(OrderError):
    """The customer can no longer cancel."""


class NotConfirmed(OrderError):
    """Somebody works on an order that nobody has told them to begin."""
