"""Recipes of the menu on the very first start."""

from __future__ import annotations

from importlib.resources import files

import msgspec

from menu.domain import Recipe


def initial_recipes() -> list[Recipe]:
    """Return the recipes in this package's `menu.yaml`."""
    return msgspec.yaml.decode((files("menu") / "menu.yaml").read_bytes(), type=list[Recipe])
