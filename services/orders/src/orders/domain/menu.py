"""Orders' own copy of the menu: what can be ordered, and for how much.

It is made of facts that may arrive twice and in any order. Each fact carries the time at which it became true; the
latest one holds, and of two with the same time always the same one, so that every order of arrival ends alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

import msgspec

from orders.domain.errors import MenuMissing, SoldOut, UnknownSku
from orders.domain.order import Line


class Published(msgspec.Struct, frozen=True, order=True):
    """Under which name an item is on the menu, since when."""

    at: datetime
    name: str


class Price(msgspec.Struct, frozen=True, order=True):
    """What one costs, since when."""

    at: datetime
    cents: int


class Availability(msgspec.Struct, frozen=True, order=True):
    """Whether it is to be had, since when."""

    at: datetime
    available: bool


Fact = TypeVar("Fact", Published, Price, Availability)


class Item(msgspec.Struct):
    """One thing on the menu. What is None is not known yet; without a name and a price it cannot be ordered."""

    published: Published | None = None
    price: Price | None = None
    availability: Availability | None = None


class Menu(msgspec.Struct):
    """All items by sku."""

    items: dict[str, Item] = {}

    def publish(self, sku: str, name: str, cents: int, *, available: bool, at: datetime) -> None:
        """Take in a recipe."""
        item = self._item(sku)
        item.published = _later(item.published, Published(at, name))
        self.change_price(sku, cents, at)
        self.set_available(sku, available=available, at=at)

    def change_price(self, sku: str, cents: int, at: datetime) -> None:
        """Take in a price."""
        item = self._item(sku)
        item.price = _later(item.price, Price(at, cents))

    def set_available(self, sku: str, *, available: bool, at: datetime) -> None:
        """Take in whether an item is to be had."""
        item = self._item(sku)
        item.availability = _later(item.availability, Availability(at, available))

    def lines(self, quantities: Mapping[str, int]) -> list[Line]:
        """Price what a customer wants.

        Raises:
            MenuMissing: No recipe is known at all.
            UnknownSku: One of them is not on the menu.
            SoldOut: One of them is not to be had.

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
