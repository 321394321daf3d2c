"""The menu: recipes, prices and availability. Pure: no I/O and no clock; `now` is a parameter."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

_TICK = timedelta(microseconds=1)


class UnknownItem(LookupError):
    """The pizza is not on the menu."""


class IngredientMissing(Exception):
    """A pizza cannot be restocked while one of its ingredients is missing."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A pizza as listed on the menu; the price is in euro cents."""

    sku: str
    name: str
    description: str
    price_cents: int
    ingredients: tuple[str, ...]
    allergens: tuple[str, ...] = ()
    image_hint: str = ""


class Item(msgspec.Struct, kw_only=True):
    """A pizza on the menu.

    Attributes:
        withdrawn: Marked as sold out by hand, whatever the ingredients.
        changed_at: Time of the last published change. Strictly increasing, since consumers use it to order the events
            of a sku.

    """

    recipe: Recipe
    changed_at: datetime
    withdrawn: bool = False

    def touch(self, now: datetime) -> datetime:
        """Set and return the time of a change."""
        self.changed_at = max(now, self.changed_at + _TICK)
        return self.changed_at


class Supply(msgspec.Struct, frozen=True):
    """Availability of an ingredient since a time."""

    available: bool
    since: datetime


class AvailabilityChange(msgspec.Struct, frozen=True):
    """A pizza that became available or unavailable."""

    sku: str
    available: bool
    since: datetime


class Menu(msgspec.Struct):
    """All items, and the ingredients reported by the kitchen."""

    items: dict[str, Item] = {}
    supplies: dict[str, Supply] = {}

    @classmethod
    def of(cls, recipes: Iterable[Recipe], now: datetime) -> Menu:
        """Create a menu with these pizzas."""
        return cls({recipe.sku: Item(recipe=recipe, changed_at=now) for recipe in recipes})

    def item(self, sku: str) -> Item:
        """Return a pizza.

        Raises:
            UnknownItem: The pizza is not on the menu.

        """
        try:
            return self.items[sku]
        except KeyError:
            raise UnknownItem(f"{sku!r} is not on the menu") from None

    def missing(self, sku: str) -> list[str]:
        """Return the ingredients of a pizza that have run out."""
        supplies = ((name, self.supplies.get(name)) for name in self.item(sku).recipe.ingredients)
        return [name for name, supply in supplies if supply is not None and not supply.available]

    def available(self, sku: str) -> bool:
        """Return whether a pizza can be ordered."""
        return not self.item(sku).withdrawn and not self.missing(sku)

    def put(self, recipe: Recipe, now: datetime) -> Item | None:
        """Add or change a pizza; return None if nothing changes."""
        known = self.items.get(recipe.sku)
        if known is None:
            self.items[recipe.sku] = Item(recipe=recipe, changed_at=now)
            return self.items[recipe.sku]
        if known.recipe == recipe:
            return None
        known.recipe = recipe
        known.touch(now)
        return known

    def reprice(self, sku: str, price_cents: int, now: datetime) -> datetime | None:
        """Change a price; return the time of the change, None if the price is the same.

        Raises:
            UnknownItem: The pizza is not on the menu.

        """
        item = self.item(sku)
        if item.recipe.price_cents == price_cents:
            return None
        item.recipe = msgspec.structs.replace(item.recipe, price_cents=price_cents)
        return item.touch(now)

    def withdraw(self, sku: str, now: datetime) -> list[AvailabilityChange]:
        """Mark a pizza as sold out until it is restored by hand.

        Raises:
            UnknownItem: The pizza is not on the menu.

        """
        before = self._availability()
        self.item(sku).withdrawn = True
        return self._changes(before, now)

    def restore(self, sku: str, now: datetime) -> list[AvailabilityChange]:
        """Make a pizza available again.

        Raises:
            UnknownItem: The pizza is not on the menu.
            IngredientMissing: One of its ingredients has run out.

        """
        missing = self.missing(sku)
        if missing:
            raise IngredientMissing(f"{sku} cannot be restocked: the kitchen is out of {', '.join(missing)}")
        before = self._availability()
        self.item(sku).withdrawn = False
        return self._changes(before, now)

    def supply(self, ingredient: str, since: datetime, now: datetime, *, available: bool) -> list[AvailabilityChange]:
        """Record the availability of an ingredient, unless a later one is known; return the resulting changes."""
        known = self.supplies.get(ingredient)
        if known is not None and known.since >= since:
            return []
        before = self._availability()
        self.supplies[ingredient] = Supply(available, since)
        return self._changes(before, now)

    def _availability(self) -> dict[str, bool]:
        return {sku: self.available(sku) for sku in self.items}

    def _changes(self, before: dict[str, bool], now: datetime) -> list[AvailabilityChange]:
        after = self._availability()
        changed = [sku for sku, available in after.items() if available != before[sku]]
        return [AvailabilityChange(sku, after[sku], self.items[sku].touch(now)) for sku in changed]
