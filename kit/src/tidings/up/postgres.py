"""The first start of a PostgreSQL of our own: its cluster is made by `initdb`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tidings.up.backends import USER, unprivileged
from tidings.up.errors import UpError
from tidings.up.folder import RunFolder, write_private


def init_cluster(initdb: Path, folder: RunFolder, password: str) -> None:
    """Make an empty cluster that asks for the password, unless there is one.

    Raises:
        UpError: initdb failed, or the folder cannot be reached by the account PostgreSQL runs under.

    """
    user = unprivileged()
    if user:  # it must get to its own folder; the others stay closed to it
        for above in (folder.path, folder.data_root):
            above.chmod(0o711)
    data = folder.data("postgres")
    cluster = data / "cluster"
    if (cluster / "PG_VERSION").exists():
        return
    secret = data / "password"
    write_private(secret, password)
    if user:
        shutil.chown(data, user)
        shutil.chown(secret, user)
    command = [
        str(initdb),
        "-D",
        str(cluster),
        "-U",
        USER,
        "-A",
        "scram-sha-256",
        f"--pwfile={secret}",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]
    made = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)
    secret.unlink()
    if made.returncode:
        hint = (
            f"; PostgreSQL does not run as root, and the account {user} must be able to enter {data.parent}: "
            "give a --run-dir that it can"
            if user
            else ""
        )
        raise UpError(f"initdb failed: {made.stderr.strip() or made.stdout.strip()}{hint}")
