"""A published build of a program, fetched and held against its published checksum."""

from __future__ import annotations

import hashlib
import tarfile
from typing import TYPE_CHECKING

import httpx2

from tidings_cli.programs.errors import ProgramError
from tidings_cli.programs.places import packaged, target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tidings_cli.programs.pins import Program, Release

LARGEST = 512 * 1024 * 1024
"""Bytes of a release: the largest one has a third of that."""
TIMEOUT = httpx2.Timeout(60, connect=5)  # seconds: many machines have no way to these addresses; say so soon


class ReleaseUnreachable(Exception):
    """The release could not be fetched from here."""


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


def pinned_digest(url: str) -> str | None:
    """The SHA-256 that this package has for an address; None where nobody has pinned one yet."""
    return published_digest(packaged("sums/releases.sum").decode(), url)


def fetch(client: httpx2.Client, url: str, into: Path) -> str:
    """Download `url`; returns its SHA-256."""
    digest, size = hashlib.sha256(), 0
    with client.stream("GET", url) as answer, into.open("wb") as file:
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            size += len(piece)
            if size > LARGEST:
                raise ProgramError(f"{url} exceeds {LARGEST} bytes", remedy="report it to your network administrator")
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def require_https(request: httpx2.Request) -> None:
    """Refuse a redirect from HTTPS to what anybody on the way could change."""
    if request.url.scheme != "https" and request.url.host not in ("127.0.0.1", "localhost"):
        raise ProgramError(f"{request.url} is not HTTPS", remedy="report it to your network administrator")


def _unpack(archive: Path, member: str, into: Path) -> None:
    with tarfile.open(archive) as tar:
        content = tar.extractfile(member)
        if content is None:
            raise ProgramError(f"{archive.name} holds no file {member}", remedy="report it: the pinned table is wrong")
        into.write_bytes(content.read())


def download(program: Program, release: Release, folder: Path, report: Callable[[str], None]) -> Path:
    """The program, fetched into `folder`.

    Raises ReleaseUnreachable where it cannot be had from here, and ProgramError where what came is not what was
    published: that is never passed over by building it instead.
    """
    url = _filled(release.url, program)
    name = url.rpartition("/")[2]
    archive = folder / name
    try:
        with httpx2.Client(timeout=TIMEOUT, follow_redirects=True, event_hooks={"request": [require_https]}) as client:
            expected, what = pinned_digest(url), "pinned"
            if expected is None:
                report(f"no checksum of {url} is pinned: what is published beside it must do")
                sums, what = client.get(_filled(release.checksums, program)).raise_for_status().text, "published"
                expected = published_digest(sums, name)
            actual = fetch(client, url, archive)
    except httpx2.HTTPError as error:
        raise ReleaseUnreachable(f"{url}: {error}") from error
    if actual != expected:
        raise ProgramError(
            f"{url} has the SHA-256 {actual}, {what} is {expected or 'none'}: it was cut short or tampered with",
            remedy="retry; if it happens again, do not run the file and report it to your network administrator",
        )
    if not release.member:
        return archive
    unpacked = folder / program.name
    _unpack(archive, _filled(release.member, program), unpacked)
    return unpacked
