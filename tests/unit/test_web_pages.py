"""The pages of the storefront and the console: their files, and the ones that they share."""

import gzip
import re
from importlib.resources import files
from pathlib import Path

import pytest

import storefront.adapters.page
import tidings_archive.console
from tidings.web.guard import PAGE_POLICY

SHARED = Path(str(files("tidings.web") / "static"))
PAGES = {"/assets/": Path(storefront.adapters.page.STATIC), "/console/assets/": Path(tidings_archive.console.STATIC)}


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*.*")) if file.is_file() and "vendor" not in file.parts]


def test_the_policy_allows_nothing_inline_and_no_other_origin() -> None:
    assert "unsafe" not in PAGE_POLICY
    assert "http" not in PAGE_POLICY
    assert PAGE_POLICY.startswith("default-src 'none'")


@pytest.mark.parametrize("folder", [*PAGES.values(), SHARED], ids=str)
def test_a_page_makes_no_external_requests_and_writes_no_markup(folder: Path) -> None:
    assert _files(folder)
    for file in _files(folder):
        text = file.read_text()
        assert [word for word in text.split() if "://" in word and "www.w3.org" not in word] == [], file
        assert "style=" not in text, file
        assert "<style" not in text, file
        assert "innerHTML" not in text, file


@pytest.mark.parametrize(("prefix", "folder"), PAGES.items())
def test_every_referenced_file_exists_in_one_place(prefix: str, folder: Path) -> None:
    served = [file.relative_to(place).as_posix() for place in (folder, SHARED) for file in _files(place)]
    assert len(served) == len(set(served)), "a file of the page hides a shared one of the same name"
    index = (folder / "index.html").read_text()
    named = re.findall(rf'(?:href|src)="{prefix}([^"]+)"', index)
    for file in (*_files(folder), *_files(SHARED)):
        place = folder if folder in file.parents else SHARED
        for imported in re.findall(r'from "(\.[^"]+)"', file.read_text()):
            named.append((file.parent / imported).resolve().relative_to(place).as_posix())
    assert "icon.svg" in named
    assert [name for name in named if name not in served and not (folder / name).is_file()] == []


@pytest.mark.parametrize("folder", PAGES.values(), ids=str)
def test_a_whole_page_is_light(folder: Path) -> None:
    assert sum(len(gzip.compress(file.read_bytes())) for file in (*_files(folder), *_files(SHARED))) < 60_000
