"""The commands of README.md and docs/tutorial.md, run in a fresh copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tidings_cli.testing.programs import Ports

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`(?P<path>[\w./-]+)`:\s*\Z")
PORT = re.compile(r"(?<=[:\s])8[01]\d\d\b")
NOT_COPIED = (".*", "__pycache__")
START, BLOCK, STOP = 600.0, 900.0, 120.0
"""Seconds for a start from nothing (programs are there already), for any other block, and for an end."""

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]


@dataclass(frozen=True)
class Block:
    """A fenced block: shell to run, a file to write, a change to make, or what the block before it prints."""

    language: str
    background: bool
    path: str
    text: str


def blocks(markdown: str) -> list[Block]:
    result = []
    for fence in FENCE.finditer(markdown):
        named = FILE.search(markdown[: fence.start()])
        path = named["path"] if named else ""
        result.append(Block(fence["language"], "background" in fence["info"], path, fence["text"]))
    return result


def section(markdown: str, title: str) -> str:
    """Return the part of a document under a heading of the second level."""
    return markdown.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def missing(expected: str, output: str) -> list[str]:
    """Return the lines that were not printed, in their order; `…` matches anything."""
    lost, rest = [], output
    for line in expected.splitlines():
        match = re.search(".*".join(map(re.escape, line.split("…"))), rest)
        if match is None:
            lost.append(line)
        else:
            rest = rest[match.end() :]
    return lost


@dataclass
class Newcomer:
    """Works in a copy of the tree, with free ports in place of the documents' own."""

    home: Path
    scratch: Path
    ports: dict[str, str]
    running: subprocess.Popen[bytes] | None = None
    output: str = ""
    starts: int = 0
    environment: dict[str, str] = field(default_factory=dict)

    def adapted(self, text: str) -> str:
        return PORT.sub(lambda result: self.ports[result[0]], text).replace("/tmp/", f"{self.scratch}/")  # noqa: S108

    def follow(self, markdown: str) -> None:
        steps = blocks(self.adapted(markdown))
        assert steps
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            expected = following.text if following and following.language == "text" else ""
            if step.background:
                self.start(step.text, expected)
            elif step.language == "sh":
                self.run(step.text, expected)
            elif step.language == "diff":
                subprocess.run(["git", "apply"], cwd=self.home, input=step.text.encode(), check=True)
            elif step.language != "text":
                assert step.path, f"no file is named before\n{step.text}"
                (self.home / step.path).parent.mkdir(parents=True, exist_ok=True)
                (self.home / step.path).write_text(step.text)

    def run(self, script: str, expected: str) -> None:
        """Run a block; variables last from one block to the next, as in one terminal."""
        kept = self.scratch / "variables"
        kept.touch()
        whole = f"set -ea; . {kept}; {{ {script}\n}}; export -p > {kept}"
        done = subprocess.run(
            ["bash", "-c", whole], cwd=self.home, env=self.environment, timeout=BLOCK, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{self.logged()}"
        assert missing(expected, done.stdout) == [], f"{script}\nprinted\n{done.stdout}"

    def start(self, command: str, expected: str) -> None:
        """Run a block in the other terminal, where what ran there before is stopped first."""
        self.stop()
        self.starts += 1
        with self.log.open("wb") as log:
            self.running = subprocess.Popen(
                ["bash", "-c", command], cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + START
        while missing(expected or "ready in … s", self.logged()):
            assert self.running.poll() is None, f"{command} has ended:\n{self.logged()}"
            assert time.monotonic() < end, f"{command} is not ready:\n{self.logged()}"
            time.sleep(0.2)

    def stop(self) -> None:
        """Press Ctrl-C in the other terminal."""
        if self.running is None:
            return
        os.killpg(self.running.pid, signal.SIGINT)
        self.running.wait(STOP)
        self.running = None
        assert "all processes have stopped" in self.logged()

    @property
    def log(self) -> Path:
        return self.scratch / f"terminal-{self.starts}.log"

    def logged(self) -> str:
        return self.log.read_text(errors="replace") if self.starts else ""


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    scratch = tmp_path_factory.mktemp("newcomer")
    home = scratch / "pizza"
    shutil.copytree(ROOT, home, ignore=shutil.ignore_patterns(*NOT_COPIED))
    expected = {
        port for name in ("README.md", "docs/tutorial.md", "tidings.yaml") for port in PORT.findall(_read(name))
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VIRTUAL_ENV"))}
    with Ports() as free:
        ports = {port: str(free.take()) for port in sorted(expected)}
        newcomer = Newcomer(home, scratch, ports, environment=kept)
        (home / "tidings.yaml").write_text(newcomer.adapted(_read("tidings.yaml")))
        try:
            yield newcomer
        finally:
            newcomer.stop()


def _read(name: str) -> str:
    return (ROOT / name).read_text()


def test_the_readme_orders_a_pizza(newcomer: Newcomer) -> None:
    newcomer.follow(section(_read("README.md"), "Run it"))


def test_the_tutorial_adds_a_service(newcomer: Newcomer) -> None:
    newcomer.follow(_read("docs/tutorial.md"))
    newcomer.stop()
    newcomer.run(".venv/bin/ruff check services/surveys tests/unit/test_surveys.py", "All checks passed!")


@pytest.mark.parametrize(
    ("expected", "output", "lost"),
    [
        ("a … c", "a b c", []),
        ("one\ntwo", "two\none", ["two"]),
        ("…5 of 7", "there are 5 of 7 (all)", []),
        ("5+", "55", ["5+"]),
    ],
)
def test_what_a_block_prints_is_compared_line_by_line(expected: str, output: str, lost: list[str]) -> None:
    assert missing(expected, output) == lost
