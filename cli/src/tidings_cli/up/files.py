"""Files and folders that only their owner can access."""

import os
from contextlib import suppress
from pathlib import Path

from tidings_cli.up.errors import UpError


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can access, or restrict an existing one."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def make_own(folder: Path) -> None:
    """Make a run folder private, and check its owner, who could create links in it.

    Raises:
        UpError: The folder, or a link to it, belongs to another user.

    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    for status in (folder.lstat(), folder.stat()):
        if status.st_uid != os.geteuid():
            raise UpError(
                f"{folder} belongs to another account, which could change what runs here: give another --run-dir"
            )
    make_private(folder)


def write_private(file: Path, text: str) -> None:
    """Replace a file atomically with one that only its owner can read. Symbolic links are not followed."""
    fresh = file.with_name(f"{file.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        os.fchmod(descriptor, 0o600)
        opened.write(text)
    fresh.replace(file)
