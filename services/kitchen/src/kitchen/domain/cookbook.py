"""Recipes, as far as the kitchen needs them."""

from collections.abc import Collection, Iterable
from datetime import datetime

import msgspec


class Recipe(msgspec.Struct, frozen=True):
    """Ingredients of a pizza, with the time of publication."""

    ingredients: frozenset[str]
    published_at: datetime


class Cookbook(msgspec.Struct):
    """The newest recipe of each sku."""

    recipes: dict[str, Recipe] = {}

    def add(self, sku: str, ingredients: Iterable[str], published_at: datetime) -> bool:
        """Store a recipe; return False if a newer one is known."""
        known = self.recipes.get(sku)
        if known is not None and known.published_at >= published_at:
            return False
        self.recipes[sku] = Recipe(frozenset(ingredients), published_at)
        return True

    def needing(self, missing: Collection[str]) -> list[str]:
        """Return the skus that need one of these ingredients. Skus without a known recipe are left out."""
        return sorted(sku for sku, recipe in self.recipes.items() if not recipe.ingredients.isdisjoint(missing))
