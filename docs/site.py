"""Lay out the documentation site's sources in .run/site/pages: `make site` builds it from there with zensical.

The site keeps the repository's layout, so that relative links between Markdown files work as on GitHub. Links to source
files and folders become plain text. A page that the navigation omits is an error.
"""
# ruff: noqa: INP001 - a program, no package

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
OMITTED = re.compile(r"^(changes|tests|\.github)/|/README\.head\.md$|/vendor/")
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def sources(root: Path) -> list[str]:
    """Return the Markdown files that are pages."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=root, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return [path for path in listed.splitlines() if not OMITTED.search(path) and (root / path).is_file()]


def page(text: str, folder: Path) -> str:
    """Return a page's text with links to existing files that are not Markdown reduced to their words."""

    def reduced(link: re.Match[str]) -> str:
        target = folder / link[2]
        return link[1] if target.exists() and target.suffix != ".md" else link[0]

    return LINK.sub(reduced, text)


def navigated(entry: object) -> Iterator[str]:
    """Yield every page of a navigation, however deep."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for each in entry.values():
            yield from navigated(each)
    elif isinstance(entry, list):
        for each in entry:
            yield from navigated(each)


def omissions(pages: list[str], navigation: object) -> list[str]:
    """Return what is wrong with the navigation: pages that it lacks, and entries that lead nowhere."""
    named = list(navigated(navigation))
    lacking = [f"zensical.toml: nav omits {path}" for path in pages if path not in named]
    return lacking + [f"zensical.toml: nav names {path}, which does not exist" for path in named if path not in pages]


def lay_out(root: Path, target: Path) -> list[str]:
    """Write the pages and images below `target`; return the faults of the navigation."""
    shutil.rmtree(target, ignore_errors=True)
    pages = sources(root)
    for path in pages:
        written = target / path
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(page((root / path).read_text(), (root / path).parent))
    shutil.copytree(root / "docs/images", target / "docs/images", dirs_exist_ok=True)
    return omissions(pages, tomllib.loads((root / "zensical.toml").read_text())["project"]["nav"])


if __name__ == "__main__":
    sys.exit("\n".join(lay_out(ROOT, ROOT / ".run/site/pages")) or None)
