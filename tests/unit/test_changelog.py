from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from changes import changelog

DAY = dt.date(2026, 12, 1)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "changes").mkdir()
    (tmp_path / "changes/kit.md").write_text("- One change\n  of two lines.\n- Another one.\n")
    (tmp_path / "changes/archive.md").write_text("- A change of the archive.\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n### Added\n\n- The first.\n")
    return tmp_path


def test_a_release_merges_the_fragments_by_area_and_removes_them(repository: Path) -> None:
    changelog.release(repository, "0.2.0", DAY)
    assert (repository / "CHANGELOG.md").read_text() == (
        "# Changelog\n\n## Unreleased\n\n## 0.2.0 (2026-12-01)\n\n"
        "### Archive\n\n- A change of the archive.\n\n### Kit\n\n- One change\n  of two lines.\n- Another one.\n\n"
        "### Added\n\n- The first.\n"
    )
    assert list((repository / "changes").iterdir()) == []


def test_the_notes_of_a_release_are_its_section_only(repository: Path) -> None:
    changelog.release(repository, "0.2.0", DAY)
    (repository / "changes/kit.md").write_text("- Later.\n")
    changelog.release(repository, "0.3.0", DAY)
    assert changelog.notes(repository, "0.3.0") == "### Kit\n\n- Later."
    assert changelog.notes(repository, "0.2.0").endswith("- The first.")


@pytest.mark.parametrize("text", ["Prose.\n", "# Kit\n- One\n", "- One\n\n- Two\n", "  continued\n"])
def test_a_fragment_that_is_no_bullet_list_is_named_with_its_line(repository: Path, text: str) -> None:
    (repository / "changes/kit.md").write_text(text)
    with pytest.raises(changelog.ChangelogError, match=r"kit\.md:\d: not a bullet"):
        changelog.check(repository)


@pytest.mark.parametrize("version", ["", "v1.0.0", "1.0", "0.2.0"])
def test_a_version_that_cannot_be_released_changes_nothing(repository: Path, version: str) -> None:
    if version == "0.2.0":
        changelog.release(repository, version, DAY)
    before = (repository / "CHANGELOG.md").read_text()
    with pytest.raises(changelog.ChangelogError):
        changelog.release(repository, version, DAY)
    assert (repository / "CHANGELOG.md").read_text() == before


def test_a_version_without_a_section_has_no_notes(repository: Path) -> None:
    with pytest.raises(changelog.ChangelogError, match="make changelog VERSION=9"):
        changelog.notes(repository, "9.0.0")
