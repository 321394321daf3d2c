"""What goes onto which pizza, as far as the kitchen must know."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

import msgspec


class Recipe(msgspec.Struct, frozen=True):
    """The ingredients of a pizza, as published at a moment."""

    ingredients: frozenset[str]
    published_at: datetime


class Cookbook(msgspec.Struct):
    """The newest recipe of each sku."""

    recipes: dict[str, Recipe] = {}

    def learn(self, sku: str, ingredients: Iterable[str], published_at: datetime) -> bool:
        """Take a recipe in; False where a newer one is known."""
        known = self.recipes.get(sku)
        if known is not None and known.published_at >= published_at:
            return False
        self.recipes[sku] = Recipe(frozenset(ingredients), published_at)
        return True

    def needing(self, missing: Collection[str]) -> list[str]:
        """Which skus cannot be made without these ingredients. Of an unknown sku nothing is known to be missing."""
        return sorted(sku for sku, recipe in self.recipes.items() if not recipe.ingredients.isdisjoint(missing))
