"""The run folder: everything the local run writes.

```
state.json  lock
resources/<app>/      what that app's sidecar loads: components, Subscriptions, Resiliency
policies/<app>.json   the consumer policy that the kit reads
map.json              the whole system: types, who reads them, what is deprecated
data/<name>/          what a service, the broker or a store keeps
logs/<process>.log
```
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

RUN_DIR = ".run"
"""Where it is unless somebody says otherwise: in the project."""


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter, also where there is one already."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner may read; a link in its place is not followed."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        os.fchmod(descriptor, 0o600)
        opened.write(text)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths in one run folder."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def data_root(self) -> Path:
        return self.path / "data"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def held(self) -> Path:
        return self.path / "held"

    def data(self, name: str) -> Path:
        """What one service or backend keeps."""
        return self.data_root / name

    def resources(self, app: str) -> Path:
        """What the sidecars of one app load."""
        return self.path / "resources" / app

    def policy(self, app: str) -> Path:
        """The consumer policy of one app."""
        return self.path / "policies" / f"{app}.json"

    @property
    def map(self) -> Path:
        return self.path / "map.json"

    def log(self, process: str) -> Path:
        """The log of one process."""
        return self.logs / f"{process}.log"

    @property
    def password(self) -> str:
        file = self.data_root / "password"
        make_private(self.data_root)
        if not file.exists():
            write_private(file, secrets.token_urlsafe())
        return file.read_text(encoding="ascii")

    def prepare(self, names: Iterable[str], *, fresh: bool) -> None:
        """Make the folders that `names` keep data in, and forget what an earlier run generated.

        With `fresh` the data that it left is forgotten too.
        """
        for generated in (self.path / "resources", self.path / "policies", self.held):
            shutil.rmtree(generated, ignore_errors=True)
        if fresh:
            shutil.rmtree(self.data_root, ignore_errors=True)
        for folder in (self.data_root, self.logs, self.held, *(self.data(name) for name in names)):
            make_private(folder)
