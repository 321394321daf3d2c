"""Downloads the release of a program and verifies it against its pinned SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from typing import TYPE_CHECKING

import httpx2

from tidings_cli.programs.errors import ProgramError
from tidings_cli.programs.places import packaged, target

if TYPE_CHECKING:
    from pathlib import Path

    from tidings_cli.programs.pins import Program, Release

LARGEST = 512 * 1024 * 1024
"""Bytes of a release: the largest one has a third of that."""
TIMEOUT = httpx2.Timeout(60, connect=5)  # seconds: many machines have no way to these addresses; say so soon


_SHA256 = re.compile(r"[0-9a-f]{64}")


class ReleaseUnavailable(Exception):
    """The release cannot be fetched from here, or nothing says which SHA-256 it must have."""


def _filled(text: str, program: Program) -> str:
    system, architecture = target()
    return text.format(version=program.version, os=system, arch=architecture)


def published_digest(text: str, file: str) -> str | None:
    """The SHA-256 of `file` in a published checksum file: `sha256sum` lines, or a bare digest."""
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for digest, *names in lines:
        if names and file in (named := names[-1].lstrip("*"), named.rpartition("/")[2]):
            return digest.lower()
    return lines[0][0].lower() if len(lines) == 1 and len(lines[0]) == 1 else None


def pinned_digest(program: Program, url: str, checksums: str) -> str:
    """Return the SHA-256 that a release must have: the one in this package, or else the user's.

    The digest published next to the release is never used: whoever can replace the release can replace it, too.
    """
    variable = f"TIDINGS_SHA256_{program.name.upper().replace('-', '_')}"
    demanded = os.environ.get(variable, "").strip().lower()
    if demanded and not _SHA256.fullmatch(demanded):
        raise ProgramError(f"{variable} is no SHA-256: {demanded[:80]!r}", remedy="set it to 64 hexadecimal digits")
    pinned = published_digest(packaged("sums/releases.sum").decode(), url) or demanded
    if not pinned:
        raise ReleaseUnavailable(
            f"no SHA-256 of {url} is pinned: set {variable} to the one that you trust, "
            f"such as the published one at {checksums}"
        )
    return pinned


def fetch(client: httpx2.Client, url: str, into: Path, expected: str) -> None:
    """Download `url`.

    Raises:
        ProgramError: It is too large, or its SHA-256 is not the expected one.

    """
    digest, size = hashlib.sha256(), 0
    with client.stream("GET", url) as answer, into.open("wb") as file:
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            size += len(piece)
            if size > LARGEST:
                raise ProgramError(f"{url} exceeds {LARGEST} bytes", remedy="report it to your network administrator")
            file.write(piece)
            digest.update(piece)
    if (actual := digest.hexdigest()) != expected:
        raise ProgramError(
            f"{url} has the SHA-256 {actual}, pinned is {expected}: it was cut short or tampered with",
            remedy="retry; if it happens again, do not run the file and report it to your network administrator",
        )


def require_https(request: httpx2.Request) -> None:
    """Refuse a redirect from HTTPS to what anybody on the way could change."""
    if request.url.scheme != "https" and request.url.host not in ("127.0.0.1", "localhost"):
        raise ProgramError(f"{request.url} is not HTTPS", remedy="report it to your network administrator")


def download(program: Program, release: Release, folder: Path) -> Path:
    """The program, fetched into `folder`.

    Raises ReleaseUnavailable if it cannot be fetched or has no pinned SHA-256, and ProgramError if its SHA-256 differs
    from the pinned one: that is never passed over by building the program instead.
    """
    url = _filled(release.url, program)
    name = url.rpartition("/")[2]
    archive = folder / name
    expected = pinned_digest(program, url, _filled(release.checksums, program))
    try:
        with httpx2.Client(timeout=TIMEOUT, follow_redirects=True, event_hooks={"request": [require_https]}) as client:
            fetch(client, url, archive, expected)
    except httpx2.HTTPError as error:
        raise ReleaseUnavailable(f"{url}: {error}") from error
    if not release.member:
        return archive
    unpacked = folder / program.name
    member = _filled(release.member, program)
    with tarfile.open(archive) as tar:
        content = tar.extractfile(member)
        if content is None:
            raise ProgramError(f"{archive.name} holds no file {member}", remedy="report it: the pinned table is wrong")
        unpacked.write_bytes(content.read())
    return unpacked
