"""Digests of images, as the registries have them; asks with crane (https://github.com/google/go-containerregistry).

- `images REPOSITORY TAG FOLDER` (`make digests`) writes values that pin the project's images in each chart, for a
  release: `helm upgrade … --values digests-pizza.yaml` then installs exactly what was tested.
- `pins` (`make image-pins`) updates the digests of all other images in the repository: the servers of the chart pizza,
  and the base of the images of a release.

Both fail and write nothing if a registry does not answer.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CHARTS = Path(__file__).resolve().parent
PINNED = (CHARTS / "pizza/values.yaml", CHARTS.parent / "images/base.txt")
"""Files that name images of others by their digests."""


def images(repository: str, tag: str) -> dict[str, dict[str, str]]:
    """Return the project's images that each chart may start, by the path of the value that names it."""
    values = yaml.safe_load((CHARTS / "pizza/values.yaml").read_text())
    parts = [*values["services"], "simulators", "operator"]
    own = {f"image.overrides.{each}": f"{repository}/{each}:{tag}" for each in parts}
    tidings = {
        "image.override": f"{repository}/operator:{tag}",
        "archive.image.override": f"{repository}/archive:{tag}",
    }
    return {"tidings": tidings, "pizza": own}


def pinned(image: str) -> str:
    """Return an image's name with the digest that its registry has for it."""
    if not (crane := shutil.which("crane")):
        sys.exit(f"{image} cannot be pinned: crane is not on PATH; see https://github.com/google/go-containerregistry")
    done = subprocess.run([crane, "digest", image], capture_output=True, text=True, check=False)
    digest = done.stdout.strip()
    if done.returncode or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        sys.exit(f"{image} cannot be pinned: {done.stderr.strip() or digest or 'crane named no digest'}")
    return f"{image}@{digest}"


def _nested(values: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, value in values.items():
        *above, last = path.split(".")
        within = found
        for each in above:
            within = within.setdefault(each, {})
        within[last] = value
    return found


def updated(text: str) -> str:
    """Return a text in which each pinned image has the digest that its registry has for its tag now."""
    return re.sub(r"([\w./-]+:[\w.-]+)@sha256:[0-9a-f]{64}", lambda image: pinned(image[1]), text)


def update_pins() -> None:
    """Update the digests of the images of others."""
    texts = {path: updated(path.read_text()) for path in PINNED}
    for path, text in texts.items():
        path.write_text(text)


def write_values(repository: str, tag: str, folder: str) -> None:
    """Write the values of each chart into a folder."""
    charts = {
        chart: {path: pinned(image) for path, image in names.items()}
        for chart, names in images(repository, tag).items()
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    for chart, values in charts.items():
        (Path(folder) / f"digests-{chart}.yaml").write_text(yaml.safe_dump(_nested(values)))


if __name__ == "__main__":
    if sys.argv[1:] == ["pins"]:
        update_pins()
    else:
        write_values(*sys.argv[2:])
