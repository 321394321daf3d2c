"""YAML as people read it: texts of several lines stand as blocks, so that they can be compared."""

from collections.abc import Iterable
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and the same block in full wherever it stands."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is the library's
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def as_yaml(documents: Iterable[Any], *, sort_keys: bool = False) -> str:
    """Write documents, one after the other."""
    return yaml.dump_all(documents, None, _Dumper, sort_keys=sort_keys, allow_unicode=True, width=1000)
