"""Values that pin every image of the charts by its digest, for a release: `make digests > digests.yaml`.

Asks the registries with crane (https://github.com/google/go-containerregistry), and fails where one cannot be asked.
`helm upgrade … --values digests.yaml` then installs exactly what was looked at.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CHARTS = Path(__file__).resolve().parent


def images(repository: str, tag: str) -> dict[str, str]:
    """Return every image that the charts may start, by the path of the value that names it."""
    values = yaml.safe_load((CHARTS / "pizza/values.yaml").read_text())
    parts = [*values["services"], "simulators", "operator"]
    own = {f"image.overrides.{each}": f"{repository}/{each}:{tag}" for each in parts}
    return {**own, **{f"{each}.image": values[each]["image"] for each in ("nats", "redis", "postgres")}}


def pinned(image: str) -> str:
    """Return an image's name with the digest that its registry has for it."""
    done = subprocess.run(["crane", "digest", image], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{image} cannot be pinned: {done.stderr.strip()}")
    return f"{image}@{done.stdout.strip()}"


def main(repository: str, tag: str) -> None:
    """Print the values of the chart pizza."""
    found: dict[str, Any] = {}
    for path, image in images(repository, tag).items():
        *above, last = path.split(".")
        within = found
        for each in above:
            within = within.setdefault(each, {})
        within[last] = pinned(image)
    yaml.safe_dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
