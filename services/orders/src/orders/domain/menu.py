"""Orders' copy of the menu: items, prices and availability.

It is built from events that may arrive twice and in any order. Each carries the time of the change; the latest wins.
Ties are broken by value, so that every order of arrival leads to the same menu.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

import msgspec

from orders.domain.errors import MenuMissing, SoldOut, UnknownSku
from orders.domain.order import Line


class Published(msgspec.Struct, frozen=True, order=True):
    """Name of an item since a time."""

    at: datetime
    name: str


class Price(msgspec.Struct, frozen=True, order=True):
    """Price of an item since a time."""

    at: datetime
    cents: int


class Availability(msgspec.Struct, frozen=True, order=True):
    """Availability of an item since a time."""

    at: datetime
    available: bool


Fact = TypeVar("Fact", Published, Price, Availability)


class Item(msgspec.Struct):
    """An item on the menu. Unknown facts are None; an item without a name or a price cannot be ordered."""

    published: Published | None = None
    price: Price | None = None
    availability: Availability | None = None


class Menu(msgspec.Struct):
    """All items by sku."""

    items: dict[str, Item] = {}

    def publish(self, sku: str, name: str, cents: int, *, available: bool, at: datetime) -> None:
        """Apply a published recipe."""
        item = self._item(sku)
        item.published = _later(item.published, Published(at, name))
        self.change_price(sku, cents, at)
        self.set_available(sku, available=available, at=at)

    def change_price(self, sku: str, cents: int, at: datetime) -> None:
        """Apply a change of price."""
        item = self._item(sku)
        item.price = _later(item.price, Price(at, cents))

    def set_available(self, sku: str, *, available: bool, at: datetime) -> None:
        """Apply a change of availability."""
        item = self._item(sku)
        item.availability = _later(item.availability, Availability(at, available))

    def lines(self, quantities: Mapping[str, int]) -> list[Line]:
        """Return priced order lines.

        Args:
            quantities: Number of pizzas by sku.

        Raises:
            MenuMissing: No recipe is known at all.
            UnknownSku: An item is not on the menu.
            SoldOut: An item is sold out.

        """
        if not any(item.published for item in self.items.values()):
            raise MenuMissing
        lines = {sku: self._line(sku, quantity) for sku, quantity in quantities.items()}
        unknown = [sku for sku, line in lines.items() if line is None]
        if unknown:
            raise UnknownSku(unknown)
        priced = [line for line in lines.values() if line is not None]
        sold_out = [line.name for line in priced if not _available(self.items[line.sku])]
        if sold_out:
            raise SoldOut(sold_out)
        return priced

    def _line(self, sku: str, quantity: int) -> Line | None:
        item = self.items.get(sku, Item())
        if item.published is None or item.price is None:
            return None
        return Line(sku=sku, name=item.published.name, quantity=quantity, unit_price_cents=item.price.cents)

    def _item(self, sku: str) -> Item:
        return self.items.setdefault(sku, Item())


def _available(item: Item) -> bool:
    return item.availability is not None and item.availability.available


def _later(known: Fact | None, new: Fact) -> Fact:
    return new if known is None else max(known, new)
