"""Files of the repository's contracts folders."""

from __future__ import annotations

from pathlib import Path

from tidings_plan.resources import contracts_folders

ROOT = Path(__file__).parents[2]


def contract_files(pattern: str) -> list[Path]:
    """Return the files that match a pattern relative to any contracts folder, sorted."""
    return sorted(file for folder in contracts_folders(ROOT) for file in folder.glob(pattern))
