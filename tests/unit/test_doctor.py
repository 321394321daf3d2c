from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from charts.doctor import MEMORY, Finding, ask, examine

WELL: Mapping[str, tuple[int, str]] = {
    "docker version": (0, "28.0.0"),
    "config current-context": (0, "kind-tidings"),
    "--raw /readyz": (0, "ok"),
    "crd subscriptions.dapr.io": (0, "customresourcedefinition/subscriptions.dapr.io"),
}


def _examined(answers: Mapping[str, tuple[int, str]], *, without: str = "", gib: float = 16) -> list[Finding]:
    def run(command: Sequence[str]) -> tuple[int, str]:
        said = " ".join(command)
        return next(answer for words, answer in {**WELL, **answers}.items() if words in said)

    return examine(run, lambda name: None if name == without else f"/bin/{name}", gib)


def test_nothing_is_missing() -> None:
    assert [each for each in _examined({}) if each.fix] == []
    assert [each.what for each in _examined({})] == [
        "Docker", "kind", "kubectl", "helm", "skaffold", "cluster", "Dapr", "memory",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "without", "gib", "fixes"),
    [
        ({"docker version": (127, "not found")}, "", 16, {"Docker": "install Docker"}),
        ({"docker version": (1, "Cannot connect to the Docker daemon")}, "", 16, {"Docker": "start it"}),
        ({}, "skaffold", 16, {"skaffold": 'tidings tools skaffold | cut -f2)" /usr/local/bin/skaffold'}),
        (
            {"config current-context": (0, "production")},
            "",
            16,
            {"cluster": "kind create cluster", "Dapr": "dapr init -k"},
        ),
        ({"--raw /readyz": (1, "refused")}, "", 16, {"cluster": "kind delete cluster", "Dapr": "dapr init -k"}),
        ({"crd subscriptions.dapr.io": (1, "NotFound")}, "", 16, {"Dapr": "dapr init -k"}),
        ({}, "", MEMORY - 1, {"memory": f"at least {MEMORY} GiB"}),
    ],
)
def test_what_is_missing_has_the_command_that_mends_it(
    answers: Mapping[str, tuple[int, str]], without: str, gib: float, fixes: Mapping[str, str]
) -> None:
    found = {each.what: each.fix for each in _examined(answers, without=without, gib=gib) if each.fix}
    assert found.keys() == fixes.keys()
    for what, words in fixes.items():
        assert words in found[what]


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["sh", "-c", "echo one; echo two"], 0, "two"),
        (["sh", "-c", "echo why >&2; exit 3"], 3, "why"),
        (["no-such-program-anywhere"], 127, "not found"),
    ],
)
def test_programs_are_asked(command: list[str], code: int, words: str) -> None:
    assert ask(command) == (code, words)
