"""A published build of a program, fetched and held against its published checksum."""

from __future__ import annotations

import hashlib
import tarfile
from typing import TYPE_CHECKING

import httpx2

from tidings.programs.errors import ProgramError
from tidings.programs.places import target

if TYPE_CHECKING:
    from pathlib import Path

    from tidings.programs.pins import Program, Release

TIMEOUT = httpx2.Timeout(60, connect=5)  # seconds: many machines have no way to these addresses; say so soon


class ReleaseUnreachable(Exception):
    """The release could not be fetched from here."""


def _filled(text: str, program: Program) -> str:
    system, architecture = target()
    return text.format(version=program.version, os=system, arch=architecture)


def published_digest(text: str, file: str) -> str | None:
    """The SHA-256 of `file` in a published checksum file: `sha256sum` lines, or a bare digest."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    for digest, *names in lines:
        if names and names[-1].lstrip("*").rpartition("/")[2] == file:
            return digest.lower()
    return lines[0][0].lower() if len(lines) == 1 and len(lines[0]) == 1 else None


def _fetch(client: httpx2.Client, url: str, into: Path) -> str:
    """Download `url`; returns its SHA-256."""
    digest = hashlib.sha256()
    with client.stream("GET", url) as answer, into.open("wb") as file:
        answer.raise_for_status()
        for piece in answer.iter_bytes():
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def _unpack(archive: Path, member: str, into: Path) -> None:
    with tarfile.open(archive) as tar:
        content = tar.extractfile(member)
        if content is None:
            raise ProgramError(f"{archive.name} holds no file {member}", mend="report it: the pinned table is wrong")
        into.write_bytes(content.read())


def download(program: Program, release: Release, folder: Path) -> Path:
    """The program, fetched into `folder`.

    Raises ReleaseUnreachable where it cannot be had from here, and ProgramError where what came is not what was
    published: that is never passed over by building it instead.
    """
    url = _filled(release.url, program)
    name = url.rpartition("/")[2]
    archive = folder / name
    try:
        with httpx2.Client(timeout=TIMEOUT, follow_redirects=True) as client:
            sums = client.get(_filled(release.checksums, program)).raise_for_status().text
            actual = _fetch(client, url, archive)
    except httpx2.HTTPError as error:
        raise ReleaseUnreachable(f"{url}: {error}") from error
    expected = published_digest(sums, name)
    if actual != expected:
        raise ProgramError(
            f"{url} has the SHA-256 {actual}, published is {expected or 'none'}: it was cut short or tampered with",
            mend="try again; if it happens twice, do not run it and tell whoever runs your network",
        )
    if not release.member:
        return archive
    unpacked = folder / program.name
    _unpack(archive, _filled(release.member, program), unpacked)
    return unpacked
