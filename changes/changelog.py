"""Merge changelog fragments: `check`, `release VERSION` (into CHANGELOG.md), `notes VERSION` (print a section).

A fragment is `changes/AREA.md`: a bullet list of the user-visible changes of one area.
"""
# ruff: noqa: INP001 - a program, no package

from __future__ import annotations

import datetime as dt
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = "## Unreleased\n"


class ChangelogError(Exception):
    """A fragment or a version that cannot be used."""


def check(root: Path) -> list[Path]:
    """Return the fragments, which hold bullets and their continuation lines only."""
    fragments = sorted((root / "changes").glob("*.md"))
    for fragment in fragments:
        lines = fragment.read_text().splitlines()
        for number, line in enumerate(lines, start=1):
            if not line.startswith(("- ", "  ")) or (number == 1 and not line.startswith("- ")):
                raise ChangelogError(
                    f"{fragment}:{number}: not a bullet: begin a change with `- `, go on with two spaces"
                )
    return fragments


def release(root: Path, version: str, day: dt.date) -> None:
    """Move the fragments, and what CHANGELOG.md lists as unreleased, under a heading of the version."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ChangelogError(f"{version!r} is no version: make changelog VERSION=1.2.3")
    changelog = root / "CHANGELOG.md"
    fragments = check(root)
    parts = [f"### {fragment.stem.capitalize()}\n\n{fragment.read_text().strip()}\n" for fragment in fragments]
    text = changelog.read_text()
    if f"## {version} " in text or MARK not in text:
        raise ChangelogError(f"{changelog}: {version} is there already, or the heading `{MARK.strip()}` is not")
    before, unreleased = text.split(MARK)
    changelog.write_text(f"{before}{MARK}\n## {version} ({day})\n\n" + "\n".join([*parts, unreleased.lstrip("\n")]))
    for fragment in fragments:
        fragment.unlink()


def notes(root: Path, version: str) -> str:
    """Return what CHANGELOG.md says of a version."""
    found = re.search(
        rf"^## {re.escape(version)} \([^)\n]*\)\n(.*?)(?=^## |\Z)",
        (root / "CHANGELOG.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    if found is None:
        raise ChangelogError(
            f"CHANGELOG.md has no section {version}: run `make changelog VERSION={version}` before the tag"
        )
    return found[1].strip()


def main(command: str, version: str = "") -> None:
    """Carry out one command."""
    match command:
        case "check":
            check(ROOT)
        case "release":
            release(ROOT, version, dt.datetime.now(dt.UTC).date())
        case "notes":
            sys.stdout.write(notes(ROOT, version) + "\n")
        case _:
            raise ChangelogError(f"{command}: expected check, release VERSION or notes VERSION")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ChangelogError as error:
        sys.exit(f"error: {error}")
