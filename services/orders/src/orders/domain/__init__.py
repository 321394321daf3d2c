"""Domain rules of orders: life cycle and prices. Pure: no I/O, no events, no clock."""

from orders.domain.errors import (
    InvalidOrder,
    KeyReused,
    MenuMissing,
    NotConfirmed,
    OrderError,
    OrderUnknown,
    SoldOut,
    TooLate,
    UnknownSku,
)
from orders.domain.menu import Menu
from orders.domain.order import (
    Address,
    Cancellation,
    Customer,
    Draft,
    Fulfilment,
    Line,
    Order,
    Reason,
    Status,
)

__all__ = [
    "Address",
    "Cancellation",
    "Customer",
    "Draft",
    "Fulfilment",
    "InvalidOrder",
    "KeyReused",
    "Line",
    "Menu",
    "MenuMissing",
    "NotConfirmed",
    "Order",
    "OrderError",
    "OrderUnknown",
    "Reason",
    "SoldOut",
    "Status",
    "TooLate",
    "UnknownSku",
]
