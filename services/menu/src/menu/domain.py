"""The menu: recipes, prices and what can be had. Pure, without I/O and without a clock; `now` is always given."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

_TICK = timedelta(microseconds=1)


class UnknownItem(LookupError):
    """No such pizza is on the menu."""


class StillMissing(Exception):
    """A pizza cannot be had again while something it needs has run out."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A pizza as it stands on the menu; the price in cents of a euro."""

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
        withdrawn: Taken off by a person, whatever there is of its ingredients.
        changed_at: The last change that was told; always later than the one before, so that readers can tell the
            order of what they are told, however it reaches them.

    """

    recipe: Recipe
    changed_at: datetime
    withdrawn: bool = False

    def touch(self, now: datetime) -> datetime:
        """Date a change."""
        self.changed_at = max(now, self.changed_at + _TICK)
        return self.changed_at


class Supply(msgspec.Struct, frozen=True):
    """Whether the kitchen has an ingredient, and since when."""

    available: bool
    since: datetime


class Flip(msgspec.Struct, frozen=True):
    """A pizza that could be had and now cannot, or the other way round."""

    sku: str
    available: bool
    since: datetime


class Menu(msgspec.Struct):
    """Everything on the menu, and which ingredients the kitchen has told about."""

    items: dict[str, Item] = {}
    supplies: dict[str, Supply] = {}

    @classmethod
    def of(cls, recipes: Iterable[Recipe], now: datetime) -> Menu:
        """Open with these pizzas."""
        return cls({recipe.sku: Item(recipe=recipe, changed_at=now) for recipe in recipes})

    def item(self, sku: str) -> Item:
        """Look a pizza up.

        Raises:
            UnknownItem: There is none.

        """
        try:
            return self.items[sku]
        except KeyError:
            raise UnknownItem(f"there is no {sku!r} on the menu") from None

    def missing(self, sku: str) -> list[str]:
        """Which of a pizza's ingredients have run out."""
        supplies = ((name, self.supplies.get(name)) for name in self.item(sku).recipe.ingredients)
        return [name for name, supply in supplies if supply is not None and not supply.available]

    def available(self, sku: str) -> bool:
        """Whether a pizza can be had."""
        return not self.item(sku).withdrawn and not self.missing(sku)

    def put(self, recipe: Recipe, now: datetime) -> Item | None:
        """Add or change a pizza; None where it stands like that already."""
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
        """Change a price; since when it holds, None where it is the same.

        Raises:
            UnknownItem: There is no such pizza.

        """
        item = self.item(sku)
        if item.recipe.price_cents == price_cents:
            return None
        item.recipe = msgspec.structs.replace(item.recipe, price_cents=price_cents)
        return item.touch(now)

    def withdraw(self, sku: str, now: datetime) -> list[Flip]:
        """Take a pizza off by hand, until it is restored.

        Raises:
            UnknownItem: There is no such pizza.

        """
        before = self._availability()
        self.item(sku).withdrawn = True
        return self._flips(before, now)

    def restore(self, sku: str, now: datetime) -> list[Flip]:
        """Offer a pizza again.

        Raises:
            UnknownItem: There is no such pizza.
            StillMissing: One of its ingredients has run out.

        """
        missing = self.missing(sku)
        if missing:
            raise StillMissing(f"{sku} cannot be had again before the kitchen is given {', '.join(missing)}")
        before = self._availability()
        self.item(sku).withdrawn = False
        return self._flips(before, now)

    def supply(self, ingredient: str, since: datetime, now: datetime, *, available: bool) -> list[Flip]:
        """Note what the kitchen says of an ingredient, unless something later is known; gives what changes by it."""
        known = self.supplies.get(ingredient)
        if known is not None and known.since >= since:
            return []
        before = self._availability()
        self.supplies[ingredient] = Supply(available, since)
        return self._flips(before, now)

    def _availability(self) -> dict[str, bool]:
        return {sku: self.available(sku) for sku in self.items}

    def _flips(self, before: dict[str, bool], now: datetime) -> list[Flip]:
        after = self._availability()
        changed = [sku for sku, available in after.items() if available != before[sku]]
        return [Flip(sku, after[sku], self.items[sku].touch(now)) for sku in changed]
