"""What is on the menu at the first start ever."""

from __future__ import annotations

from importlib.resources import files

import msgspec

from menu.domain import Recipe


def opening_recipes() -> list[Recipe]:
    """Read `menu.yaml` of this package."""
    return msgspec.yaml.decode((files("menu") / "menu.yaml").read_bytes(), type=list[Recipe])
