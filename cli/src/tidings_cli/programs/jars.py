"""Kafka: a folder of jars, run by the machine's Java.

They come from a Kafka that is installed (`KAFKA_HOME`, or its scripts on PATH), else one by one from Maven Central,
each with a pinned checksum: its release is an archive three times that size.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from tidings_cli.programs.errors import ProgramError
from tidings_cli.programs.places import VERSION_SECONDS, cached, packaged
from tidings_cli.programs.release import TIMEOUT, fetch, require_https

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidings_cli.programs.pins import Program

CENTRAL = "https://repo1.maven.org/maven2"
SUMS = "sums/kafka.sum"
OLDEST_JAVA = 17
_AT_ONCE = 4
# A broker for development and tests: small, and quick to start.
_JAVA_OPTIONS = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_LOGGING = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


def java() -> Path:
    """Return the machine's Java.

    Raises:
        ProgramError: It has none, or one that is too old for Kafka.

    """
    home = os.environ.get("JAVA_HOME")
    result = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    result = result or shutil.which("java")
    remedy = (
        f"install Java {OLDEST_JAVA} or newer (Debian: `apt-get install default-jre-headless`, macOS: `brew install "
        "openjdk`)"
    )
    if not result:
        raise ProgramError("Kafka needs Java, which is neither in JAVA_HOME nor on PATH", remedy=remedy)
    answer = subprocess.run(
        [result, "-version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False
    ).stderr
    version = re.search(r'version "(\d+)', answer)
    if not version or int(version[1]) < OLDEST_JAVA:
        is_now = f"Java {version[1]}" if version else "of an unknown version"
        raise ProgramError(f"Kafka needs Java {OLDEST_JAVA} or newer, and {result} is {is_now}", remedy=remedy)
    return Path(result)


def command(folder: Path, main: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of one of Kafka's programs, such as `kafka.Kafka`."""
    return (str(java()), *_JAVA_OPTIONS, _LOGGING, "-cp", f"{folder}/*", main, *arguments)


def pinned() -> dict[str, str]:
    """Return the pinned SHA-256 of each jar, by its path on Maven Central."""
    lines = [line.split() for line in packaged(SUMS).decode().splitlines() if line and not line.startswith("#")]
    return {path: digest for digest, path in lines}


def obtain(program: Program, scratch: Path, report: Callable[[str], None]) -> Path:
    """Fetch Kafka's jars into the cache, and return their folder there.

    Raises:
        ProgramError: There is no Java, Maven Central cannot be reached, or a jar is not the pinned one.

    """
    java()
    jars = pinned()
    report(f"downloading {program.name} {program.version} ({len(jars)} jars)")
    folder = scratch / "jars"
    folder.mkdir()
    hooks = {"request": [require_https]}
    try:
        with (
            httpx2.Client(timeout=TIMEOUT, follow_redirects=True, event_hooks=hooks) as client,
            ThreadPoolExecutor(_AT_ONCE) as workers,
        ):
            tasks = [
                workers.submit(fetch, client, f"{CENTRAL}/{path}", folder / path.rpartition("/")[2], digest)
                for path, digest in jars.items()
            ]
            for task in tasks:
                task.result()
    except httpx2.HTTPError as error:
        raise ProgramError(
            f"Kafka's jars cannot be fetched from {CENTRAL} ({error})",
            remedy=f"unpack Kafka {program.version} or newer (https://kafka.apache.org/downloads), and set KAFKA_HOME",
        ) from error
    return folder.replace(cached(program))
