"""The run folder, which holds all files of a local run.

```
state.json  lock
resources/<app>/      resources of the app's sidecar: components, Subscriptions, Resiliency
policies/<app>.json   consumer policy for the SDK
suspended/<name>      suspends a subscription
map.json              system map: types, consumers, deprecations
data/<name>/          data of a service, the broker or a store
data/keys.db          keys that encrypt personal data
logs/<process>.log
```
"""

import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tidings.subject_keys import KeyFile
from tidings_cli.up.files import make_private, write_private

RUN_DIR = ".run"
"""Default path, relative to the project."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths in a run folder."""

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

    @property
    def suspended(self) -> Path:
        """A file in this folder suspends the subscription of its name, until the file is deleted."""
        return self.path / "suspended"

    @property
    def suspended_names(self) -> frozenset[str]:
        return frozenset(file.name for file in self.suspended.iterdir())

    def data(self, name: str) -> Path:
        """Return the data folder of a service or backend."""
        return self.data_root / name

    def resources(self, app: str) -> Path:
        """Return the resource folder of an app's sidecars."""
        return self.path / "resources" / app

    def policy(self, app: str) -> Path:
        """Return the file with the consumer policy of an app."""
        return self.path / "policies" / f"{app}.json"

    @property
    def map(self) -> Path:
        return self.path / "map.json"

    def log(self, process: str) -> Path:
        """Return the log file of a process."""
        return self.logs / f"{process}.log"

    @property
    def password(self) -> str:
        # Created once and kept with the data, since a store persists its password.
        file = self.data_root / "password"
        make_private(self.data_root)
        if not file.exists():
            write_private(file, secrets.token_urlsafe())
        return file.read_text(encoding="ascii")

    @property
    def keys(self) -> Path:
        """The keys that encrypt personal data, kept with the data that only they can decrypt."""
        return self.data_root / "keys.db"

    def prepare(self, names: Iterable[str], *, fresh: bool) -> None:
        """Create the data folders for `names` and the keys, and delete the generated files of an earlier run.

        With `fresh`, its data is deleted too.
        """
        for generated in (self.path / "resources", self.path / "policies", self.held):
            shutil.rmtree(generated, ignore_errors=True)
        if fresh:
            shutil.rmtree(self.data_root, ignore_errors=True)
            shutil.rmtree(self.suspended, ignore_errors=True)
        for folder in (self.data_root, self.logs, self.held, self.suspended, *(self.data(name) for name in names)):
            make_private(folder)
        KeyFile(self.keys)  # created with mode 0600
