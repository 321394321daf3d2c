"""Documentation agrees with the code: generated pages are current, links resolve, and snippets parse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from docs.reference import generate

ROOT = Path(__file__).parents[2]
NOT_OURS = {".venv", ".run", ".git", ".cache", "node_modules"}
DOCUMENTS = sorted(path for path in ROOT.rglob("*.md") if not NOT_OURS & set(path.relative_to(ROOT).parts))
FENCED = re.compile(r"^(?P<margin> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
MAKE = re.compile(r"\bmake ((?:[a-z0-9-]+ ?)+)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """Return a document without its fenced blocks and its code spans."""
    return re.sub(r"`[^`\n]*`", "", FENCED.sub("", path.read_text()))


def anchors(path: Path) -> set[str]:
    """Return the link targets of a document, as GitHub derives them from headings."""
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def snippets(*languages: str) -> list[object]:
    params: list[object] = []
    for path in DOCUMENTS:
        for number, result in enumerate(FENCED.finditer(path.read_text())):
            if result["language"] in languages:
                text = re.sub(f"^{result['margin']}", "", result["text"], flags=re.MULTILINE)
                params.append(pytest.param(text, id=f"{name(path)}-{number}"))
    return params


@pytest.mark.parametrize("page", generate.PAGES)
def test_generated_pages_are_fresh(page: str) -> None:
    assert (generate.HERE / page).read_text() == generate.PAGES[page](), "write it anew with `make docs`"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_within_the_repository_lead_somewhere(path: Path) -> None:
    dead = []
    for link in LINK.finditer(prose(path)):
        target, _, anchor = link["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(link["target"])
    assert dead == []


@pytest.mark.parametrize(
    "index", [path for path in DOCUMENTS if path.parent.parent == ROOT / "docs" and path.name == "README.md"], ids=name
)
def test_every_page_is_reachable_from_its_index(index: Path) -> None:
    listed = {link["target"] for link in LINK.finditer(index.read_text())}
    assert {path.name for path in index.parent.glob("*.md")} - listed == {"README.md"}


@pytest.mark.parametrize("text", snippets("python"))
def test_python_in_the_documents_can_be_parsed(text: str) -> None:
    compile(
        f"async def _():\n{re.sub('^', ' ', text, flags=re.MULTILINE)}" if "async with" in text else text, "-", "exec"
    )


@pytest.mark.parametrize("text", snippets("yaml"))
def test_yaml_in_the_documents_can_be_parsed(text: str) -> None:
    assert list(yaml.safe_load_all(text)) != [None]


def test_every_documented_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = [
        result
        for path in DOCUMENTS
        for result in re.findall(r"`(make [^`\n]*)`|^(make .*)$", path.read_text(), re.MULTILINE)
    ]
    named = {word for pair in code for result in MAKE.finditer("".join(pair)) for word in result[1].split()}
    assert named
    assert named - targets == set()
