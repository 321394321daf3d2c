"""Values that pin every image of the charts by its digest, for a release: `make digests`.

Asks the registries with crane (https://github.com/google/go-containerregistry), and fails, writing nothing, where one
cannot be asked. `helm upgrade … --values digests-pizza.yaml` then installs exactly what was looked at.
`make base-image` names the images' base in the same way, for `make images BASE=…`.
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


def images(repository: str, tag: str) -> dict[str, dict[str, str]]:
    """Return every image that each chart may start, by the path of the value that names it."""
    values = yaml.safe_load((CHARTS / "pizza/values.yaml").read_text())
    parts = [*values["services"], "simulators", "operator"]
    own = {f"image.overrides.{each}": f"{repository}/{each}:{tag}" for each in parts}
    included = {f"{each}.image": values[each]["image"] for each in ("nats", "redis", "postgres")}
    tidings = {
        "image.override": f"{repository}/operator:{tag}",
        "archive.image.override": f"{repository}/archive:{tag}",
    }
    return {"tidings": tidings, "pizza": {**own, **included}}


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


def base_image() -> str:
    """Return the base of the services' images, with its digest."""
    text = (CHARTS.parent / "images/service.Dockerfile").read_text()
    return pinned(re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)[0])


def main(repository: str, tag: str, folder: str) -> None:
    """Write the values of each chart into a folder."""
    charts = {
        chart: {path: pinned(image) for path, image in names.items()}
        for chart, names in images(repository, tag).items()
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    for chart, values in charts.items():
        (Path(folder) / f"digests-{chart}.yaml").write_text(yaml.safe_dump(_nested(values)))


if __name__ == "__main__":
    if sys.argv[1:] == ["base"]:
        sys.stdout.write(f"{base_image()}\n")
    else:
        main(*sys.argv[1:])
