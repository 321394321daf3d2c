"""Lay out the documentation site's sources in .run/site: `make site` builds it from there with zensical.

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
INDEX = re.compile(r'^( *)"(docs/[a-z-]+/README\.md)",\n', re.MULTILINE)
LISTED = re.compile(r"\]\(([a-z0-9-]+\.md)\)")
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


def configuration(root: Path) -> str:
    """Return zensical.toml with every index, docs/*/README.md, followed by the pages that it lists."""

    def expanded(entry: re.Match[str]) -> str:
        index = root / entry[2]
        listed = dict.fromkeys(LISTED.findall(index.read_text())) if index.is_file() else {}
        pages = [entry[2], *(f"{Path(entry[2]).parent}/{page}" for page in listed if page != index.name)]
        return "".join(f'{entry[1]}"{page}",\n' for page in pages)

    return INDEX.sub(expanded, (root / "zensical.toml").read_text())


def omissions(pages: list[str], navigation: object) -> list[str]:
    """Return what is wrong with the navigation: pages that it lacks, and entries that lead nowhere."""
    named = list(navigated(navigation))
    lacking = [f"zensical.toml: nav omits {path}: list it there or in the README.md of its folder" for path in pages]
    lost = [f"zensical.toml: nav names {path}, which does not exist" for path in named if path not in pages]
    return [each for path, each in zip(pages, lacking, strict=True) if path not in named] + lost


def lay_out(root: Path, target: Path) -> list[str]:
    """Write the configuration, pages and images below `target`; return the faults of the navigation."""
    shutil.rmtree(target, ignore_errors=True)
    pages = sources(root)
    for path in pages:
        written = target / "pages" / path
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(page((root / path).read_text(), (root / path).parent))
    shutil.copytree(root / "docs/images", target / "pages/docs/images", dirs_exist_ok=True)
    (target / "zensical.toml").write_text(configuration(root))
    return omissions(pages, tomllib.loads(configuration(root))["project"]["nav"])


if __name__ == "__main__":
    sys.exit("\n".join(lay_out(ROOT, ROOT / ".run/site")) or None)
