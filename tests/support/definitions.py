"""Schemas of custom resources: our own, and those of Dapr, KEDA and the Prometheus operator.

Theirs come out of their Go modules, by the module proxy and into Go's module cache, in pinned versions; none is kept
here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tidings_cli.programs import PROGRAMS

OWN = Path(__file__).parents[2] / "operator/manifests/crds.yaml"
KEDA = "github.com/kedacore/keda/v2@v2.17.2"
FOREIGN = {
    f"github.com/dapr/dapr@v{PROGRAMS['daprd'].version}": ("charts/dapr/crds/*.yaml",),
    KEDA: ("config/crd/bases/keda.sh_*.yaml",),
    "github.com/prometheus-operator/prometheus-operator@v0.82.0": (
        "example/prometheus-operator-crd/*monitors.yaml",
        "example/prometheus-operator-crd/*prometheusrules.yaml",
    ),
}
"""A module, and where its definitions are."""
Kind = tuple[str, str]
"""apiVersion and kind."""


def validate(resource: Mapping[str, Any]) -> None:
    """Validate a custom resource against its schema; raise KeyError for a kind without a CRD."""
    kind = (resource["apiVersion"], resource["kind"])
    validators = _validators(OWN) if resource["apiVersion"].startswith("tidings.dev/") else _foreign()
    validators[kind].validate(resource)


@cache
def _validators(*files: Path) -> Mapping[Kind, Draft202012Validator]:
    return dict(_read(files))


def _read(files: tuple[Path, ...]) -> Iterator[tuple[Kind, Draft202012Validator]]:
    for file in files:
        for item in yaml.load_all(file.read_text(), yaml.CSafeLoader):
            spec = item["spec"]
            for version in spec["versions"]:
                kind = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                yield kind, Draft202012Validator(_structural(version["schema"]["openAPIV3Schema"]))


@cache
def _foreign() -> Mapping[Kind, Draft202012Validator]:
    folders = {module: module_folder(module) for module in FOREIGN}
    return _validators(
        *(file for module, where in FOREIGN.items() for item in where for file in sorted(folders[module].glob(item)))
    )


def module_folder(module: str) -> Path:
    """Return the folder of a Go module, which is downloaded where it is missing."""
    if not shutil.which("go"):
        pytest.skip(f"NOT TESTED, {module} comes from the Go module proxy: install Go")
    command = ["go", "mod", "download", "-json", module]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout)["Dir"])


def _structural(schema: Any) -> Any:
    """Refuse what a structural schema does not name, as the API server's strict validation does."""
    if isinstance(schema, list):
        return [_structural(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        schema = {key: value for key, value in schema.items() if key != "type"}
    inner = {
        key: {name: _structural(item) for name, item in value.items()} if key == "properties" else _structural(value)
        for key, value in schema.items()
        if key not in ("exclusiveMinimum", "exclusiveMaximum")
    }
    is_closed = "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields")
    is_closed = is_closed and "name" not in inner.get("properties", {}).get("metadata", {})
    return {**inner, **({"additionalProperties": False} if is_closed else {})}
