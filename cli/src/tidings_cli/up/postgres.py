"""Initialisation of the local PostgreSQL server."""

import shutil
import subprocess
from pathlib import Path

from tidings_cli.up.backends import USER, unprivileged
from tidings_cli.up.errors import UpError
from tidings_cli.up.files import write_private
from tidings_cli.up.folder import RunFolder


def init_cluster(initdb: Path, folder: RunFolder, password: str) -> None:
    """Create an empty database cluster with password authentication, unless it exists.

    Raises:
        UpError: initdb failed, for example because PostgreSQL's account cannot access the folder.

    """
    user = unprivileged()
    if user:  # grants access to its own folder only
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
    command = [str(initdb), "-D", str(cluster), "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}"]
    command += ["-E", "UTF8", "--locale=C", "--no-sync"]
    result = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)
    secret.unlink()
    if result.returncode:
        needed = f"; PostgreSQL cannot run as root, and the account {user} needs access to {data.parent}"
        hint = f"{needed}: choose another --run-dir" if user else ""
        raise UpError(f"initdb failed: {result.stderr.strip() or result.stdout.strip()}{hint}")
