"""The first start of a PostgreSQL of our own: its cluster is made by `initdb`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tidings.up.backends import unprivileged
from tidings.up.errors import UpError


def init_cluster(initdb: Path, data: Path) -> None:
    """Make an empty cluster in `data`/cluster, unless there is one; anybody on this machine's loopback may use it.

    Raises:
        UpError: initdb failed, or the folder cannot be reached by the account PostgreSQL runs under.

    """
    cluster = data / "cluster"
    if (cluster / "PG_VERSION").exists():
        return
    user = unprivileged()
    if user:
        shutil.chown(data, user)
    command = [
        str(initdb),
        "-D",
        str(cluster),
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]
    made = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)
    if made.returncode:
        hint = (
            f"; PostgreSQL does not run as root, and the account {user} must be able to enter {data.parent}: "
            "give a --run-dir that it can"
            if user
            else ""
        )
        raise UpError(f"initdb failed: {made.stderr.strip() or made.stdout.strip()}{hint}")
