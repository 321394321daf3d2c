"""Dapr components from the sets in components/, with what differs between machines filled in.

A value of a set may hold `${NAME}`; `$$` is a dollar sign. Filling in happens after the YAML is read, so a value may
hold any character, and it happens only in scalars, so the files are plain YAML to every other tool.
"""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING, Any

import yaml

from tidings.errors import TidingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class ComponentError(TidingsError):
    """A component set is missing or malformed, or a value that it asks for was not given."""


def _filled(node: Any, values: Mapping[str, str], where: str) -> Any:
    if isinstance(node, dict):
        inner = f"{where} {node['name']}" if isinstance(node.get("name"), str) else where
        return {key: _filled(value, values, inner) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(item, values, where) for item in node]
    if not isinstance(node, str):
        return node
    try:
        return Template(node).substitute(values)
    except KeyError as error:
        name = error.args[0]
        raise ComponentError(f"{where} asks for {name}, which has no value: give `{name}` to render()") from error
    except ValueError as error:
        raise ComponentError(
            f"{where}: {node!r} is not what a value may look like ({error}): write ${{NAME}} for a value to fill in, "
            "$$ for a dollar sign"
        ) from error


def _documents(file: Path) -> list[dict[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ComponentError(f"{file} is not YAML: {error}") from error
    for document in documents:
        if not isinstance(document, dict) or document.get("kind") != "Component":
            raise ComponentError(f"{file} holds something that is no Dapr Component: move it out of the set")
    return documents


def render(folder: Path, values: Mapping[str, str], scopes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The components of the set in `folder`, each as the mapping that daprd or Kubernetes reads.

    `values` fills in the set's `${NAME}`s; it may hold more than the set asks for. `scopes` are the app ids that may
    use the components; none means all. Raises ComponentError where the folder holds no component, a file is malformed,
    or a value is missing.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise ComponentError(f"{folder} holds no component (*.yaml): name a folder of components/")
    rendered = [_filled(document, values, str(file)) for file in files for document in _documents(file)]
    return [{**document, "scopes": list(scopes)} if scopes else document for document in rendered]
