"""Workflows, hooks and documents name commands, parts and pages that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs import site

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.MULTILINE))
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in WORKFLOWS[name]["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_make_target_of_a_workflow_exists(name: str) -> None:
    lines = [line.strip() for step in steps(name) for line in str(step.get("run", "")).splitlines()]
    commands = [line.split()[1:] for line in lines if line.startswith("make ")]
    named = {word for command in commands for word in command if re.fullmatch(r"[a-z0-9-]+", word)}
    assert named, lines
    assert named - TARGETS == set()


def test_the_matrix_runs_every_part_of_make_test() -> None:
    parts = WORKFLOWS["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["part"]
    [named] = re.findall(r"^PARTS := (.*)$", MAKEFILE, re.MULTILINE)
    assert parts == named.replace("$(or $(UNIT),unit-test)", "coverage").split()
    assert {*parts, "unit-test"} <= TARGETS


def test_continuous_integration_runs_what_ci_run_runs() -> None:
    workflow = " ".join(str(step.get("run", "")) for step in steps("ci.yml"))
    named = re.findall(r"^exec make (.*)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)[0].split()
    assert set(named) - {"test", "UNIT=coverage"} <= set(re.findall(r"make ([a-z-]+)", workflow))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned_to_a_commit_and_every_job_to_its_rights(name: str) -> None:
    text = (ROOT / ".github/workflows" / name).read_text()
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action) and " # v" in tag for action, tag in used), used
    assert WORKFLOWS[name]["permissions"] == {}
    assert all("permissions" in job and "timeout-minutes" in job for job in WORKFLOWS[name]["jobs"].values())


def test_one_action_has_one_version_everywhere() -> None:
    used = re.findall(r"uses: (\S+)@(\w+)", "".join(path.read_text() for path in (ROOT / ".github").rglob("*.yml")))
    assert len({action for action, _ in used}) == len(set(used))


def test_what_is_released_has_one_version() -> None:
    projects = [ROOT / path for path in ("pyproject.toml", "kit/pyproject.toml", "operator/pyproject.toml")]
    versions = {tomllib.loads(path.read_text())["project"]["version"] for path in projects}
    charts = [yaml.safe_load(path.read_text()) for path in (ROOT / "charts").glob("*/Chart.yaml")]
    assert len(versions | {chart[key] for chart in charts for key in ("version", "appVersion")}) == 1


def test_every_hook_runs_a_program_of_the_lock_or_a_pinned_one() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    for hook in hooks[0]["hooks"]:
        pinned = hook["language"] == "golang" and all(
            "@v" in additional_dependency for additional_dependency in hook["additional_dependencies"]
        )
        assert pinned or hook["entry"].startswith(".venv/bin/"), hook["id"]


def test_every_folder_of_dependabot_exists() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    folders = [folder for update in updates for folder in update.get("directories", [update.get("directory")])]
    assert [folder for folder in folders if not list(ROOT.glob(folder.lstrip("/") or "pyproject.toml"))] == []


def test_every_owned_path_exists() -> None:
    rules = [
        line.split() for line in (ROOT / ".github/CODEOWNERS").read_text().splitlines() if line[:1] not in {"#", ""}
    ]
    assert [path for path, *owners in rules if path != "*" and not (ROOT / path.strip("/")).exists()] == []
    assert all(owners for _, *owners in rules)


def test_every_page_has_a_place_in_the_navigation() -> None:
    navigation = tomllib.loads(site.configuration(ROOT))["project"]["nav"]
    assert site.omissions(site.sources(ROOT), navigation) == []


def test_an_omitted_page_and_a_lost_one_are_named() -> None:
    assert site.omissions(["a.md", "b.md"], [{"A": "a.md"}, {"C": ["c.md"]}]) == [
        "zensical.toml: nav omits b.md: list it there or in the README.md of its folder",
        "zensical.toml: nav names c.md, which does not exist",
    ]


def test_links_to_sources_become_words_and_links_to_pages_stay(tmp_path: Path) -> None:
    (tmp_path / "code.py").touch()
    (tmp_path / "page.md").touch()
    text = "[code](code.py) [page](page.md#part) [gone](gone.py) [web](https://example.org) ![p](code.py)"
    expected = "code [page](page.md#part) [gone](gone.py) [web](https://example.org) ![p](code.py)"
    assert site.page(text, tmp_path) == expected
