"""Readable YAML: multi-line strings are written as blocks, so that a diff shows their changed lines."""

from collections.abc import Iterable
from typing import Any

import yaml

from tidings.terminal import is_unsafe


class _Dumper(yaml.SafeDumper):
    """Dumper with block style for multi-line strings and without anchors and aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is the library's
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def as_yaml(documents: Iterable[Any], *, sort_keys: bool = False) -> str:
    """Return the documents as a YAML stream, in which characters that a terminal could obey are escaped."""
    listed = list(documents)
    text = str(yaml.dump_all(listed, None, _Dumper, sort_keys=sort_keys, allow_unicode=True, width=1000))
    if not any(is_unsafe(character) and character != "\n" for character in text):
        return text
    return str(yaml.dump_all(listed, None, _Dumper, sort_keys=sort_keys, allow_unicode=False, width=1000))
