"""The page of tested versions names the versions that the tests run, and the oldest ones that `tidings up` accepts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tidings_cli.programs import PROGRAMS, ProgramError, ensure
from tidings_cli.programs.places import parse_version

pytestmark = pytest.mark.real
PAGE = Path(__file__).parents[2] / "docs/reference/tested-versions.md"
NAMES = {
    "daprd": "daprd",
    "NATS Server": "nats-server",
    "Redis": "redis-server",
    "RabbitMQ": "rabbitmq-server",
    "Kafka": "kafka",
    "PostgreSQL": "postgres",
}


def rows() -> dict[str, tuple[str, str]]:
    """Return the tested and the oldest version by the name on the page."""
    matches = re.findall(r"^\| ([\w ]+) \| ([\d.]+) \| ([\d.]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: (tested, oldest) for name, tested, oldest in matches}


def version(name: str) -> tuple[int, ...]:
    """Return the version of the program that tests start."""
    program = PROGRAMS[name]
    try:
        path = ensure(name, report=print)[name]
    except ProgramError as error:
        pytest.skip(f"NOT TESTED, {name} cannot be had here: {error}")
    if program.jar:
        names = [jar[1] for item in path.iterdir() if (jar := re.fullmatch(program.jar, item.name))]
    elif name == "rabbitmq-server":  # its script has no option for that
        names = [item.name.rpartition("-")[2] for item in Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")]
        if not names:
            pytest.skip("NOT TESTED, RabbitMQ is not Debian's")
    else:
        names = [subprocess.run([path, *program.version_command], capture_output=True, text=True, check=True).stdout]
    result = parse_version(names[0])
    assert result, names
    return result


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("title", NAMES)
def test_the_page_names_the_version_that_is_tested(title: str) -> None:
    tested = numbers(rows()[title][0])
    assert version(NAMES[title])[: len(tested)] == tested


@pytest.mark.parametrize("title", NAMES)
def test_the_page_names_the_oldest_version_that_is_accepted(title: str) -> None:
    oldest = numbers(rows()[title][1])
    assert numbers(PROGRAMS[NAMES[title]].version)[: len(oldest)] == oldest


def test_the_page_names_every_broker() -> None:
    assert rows().keys() == NAMES.keys()


def test_debians_redis_has_its_corrections() -> None:
    query = ["dpkg-query", "--show", "--showformat", "${Version}", "redis-server"]
    try:
        installed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("NOT TESTED, Redis is not Debian's")
    if "~deb12u" not in installed:
        pytest.skip("NOT TESTED, Redis is not Debian 12's")
    corrected = re.findall(r"\b5:7\.0\.15-1~deb12u\d+", PAGE.read_text(encoding="utf-8"))[0]
    subprocess.run(["dpkg", "--compare-versions", installed, "ge", corrected], check=True)
