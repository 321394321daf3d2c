"""Files of the repository's contracts folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidings_plan.resources import contracts_folders

ROOT = Path(__file__).parents[2]


def contract_files(pattern: str) -> list[Path]:
    """Return the files that match a pattern relative to any contracts folder, sorted."""
    return sorted(file for folder in contracts_folders(ROOT) for file in folder.glob(pattern))


def one_event(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of an EventSubscription whose one entry of `events` is written flat, as tables of cases do."""
    entry = {name: spec[name] for name in ("type", "pattern", "namespace", "versions", "filters") if name in spec}
    if "pattern" in entry:
        entry.pop("type", None)
    shared = {name: value for name, value in spec.items() if name not in entry and name != "type"}
    return {"events": [entry], **shared} if entry else shared
