"""Read objects from the API server. An unreadable object gets a finding and delays no other.

The API server stores objects of 1.5 MB and 10,000 levels. Python's JSON readers fail after some hundred levels, and a
page of large objects takes a gigabyte. Therefore each object is measured first: of one beyond LARGEST or DEEPEST, only
the metadata and status are read, with the reason as an annotation instead of the spec.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from tidings_operator.judging import Judge, JudgementError
from tidings_plan.resources import Finding, parse_resource
from tidings_plan.resources.model import Resource

LARGEST = 512 * 1024
"""Maximum bytes of an object's JSON."""
DEEPEST = 100
"""Maximum levels of an object's JSON."""
INLINE = 64 * 1024
"""Bytes of a spec up to which it is parsed directly; a larger one is parsed in a fork."""
UNREADABLE = "tidings.dev/unreadable"
"""Annotation with the reason why the spec was not read. Exists in memory only."""
KEPT_DEEP = 12_000
"""More levels than the API server accepts (10,000)."""
_UNBOUNDED = "CustomResourceDefinition"
"""Kinds that only cluster administrators write and that kopf needs completely; some objects are large."""
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_OTHERS = bytes(byte for byte in range(256) if byte not in b"{}[]")

Read = tuple[Resource[Any] | None, Sequence[Finding]]


class _Metadata(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Metadata without managedFields, which is as deep as the object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None


class _Outline(msgspec.Struct, omit_defaults=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    metadata: _Metadata = _Metadata()
    status: msgspec.Raw = msgspec.Raw()


def decode(text: bytes) -> Any:
    """Decode a response of the API server: an object, a list, or one line of a watch."""
    try:
        top = _raw(text, dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return msgspec.json.decode(text)  # no object at all
    outer = {name: msgspec.json.decode(value) for name, value in top.items() if name in ("kind", "apiVersion", "type")}
    if "items" in top:
        bounded = not str(outer.get("kind")).startswith(_UNBOUNDED)
        items = [_object(bytes(item), bounded) for item in _raw(top["items"], list[msgspec.Raw] | None) or ()]
        return {**outer, "metadata": msgspec.json.decode(top["metadata"]), "items": items}
    if "type" in outer and "object" in top:
        return {**outer, "object": _object(bytes(top["object"]))}
    return _object(text, outer.get("kind") != _UNBOUNDED)


class _Bookmark(msgspec.Struct):
    metadata: _Metadata


def is_event(text: bytes) -> bool:
    """Return False for a line of a watch that says nothing, or that would make the next watch fail.

    A watch continues from the version of a bookmark. With one that the API server cannot read, it would be refused.
    """
    try:
        top = _raw(text, dict[str, msgspec.Raw])
        if msgspec.json.decode(top["type"]) == "BOOKMARK":
            return msgspec.json.decode(top["object"], type=_Bookmark).metadata.resource_version.isdecimal()
        return bytes(top["object"]).startswith(b"{")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return False


def line(text: bytes) -> bytes:
    """Return a line of a watch unchanged, or the readable part of an object that is too large or too deep."""
    top = _raw(text, dict[str, msgspec.Raw])
    is_fine = not _beyond(bytes(top["object"]))
    return text if is_fine else msgspec.json.encode(decode(text))


async def read(body: Mapping[str, Any], judge: Judge) -> Read:
    """Parse an object; any failure becomes a finding."""
    reason = (body["metadata"].get("annotations") or {}).get(UNREADABLE)
    if reason and "spec" not in body:
        return None, [_unreadable(body, reason)]
    try:
        if len(msgspec.json.encode(body.get("spec"))) <= INLINE:
            return parse_resource(body)
        return await judge(partial(parse_resource, body))
    except JudgementError as error:
        return None, [_unreadable(body, str(error))]
    except Exception as error:  # noqa: BLE001 - any exception is reported on the object
        return None, [_unreadable(body, f"{type(error).__name__}: {error}"[:500])]


def _unreadable(body: Mapping[str, Any], why: str) -> Finding:
    ref = f"{body['kind']}/{body['metadata']['name']}"
    return Finding(
        "error", "unreadable", f"This cannot be read: {why}", "Make it smaller or less nested.", resource=ref
    )


def _raw(text: bytes | msgspec.Raw, kind: Any) -> Any:
    """Decode the outermost level; inner levels are only skipped, which is recursive, too."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + KEPT_DEEP)
    try:
        return msgspec.json.decode(text, type=kind)
    finally:
        sys.setrecursionlimit(limit)


def _object(text: bytes, bounded: bool = True) -> Any:
    why = _beyond(text) if bounded else ""
    if not why:
        return msgspec.json.decode(text)
    outline = _raw(text, _Outline)
    stub = {"apiVersion": outline.api_version, "kind": outline.kind, "metadata": msgspec.to_builtins(outline.metadata)}
    status = bytes(outline.status)
    if status and not _beyond(status):
        stub["status"] = msgspec.json.decode(status)
    stub["metadata"]["annotations"] = {**(outline.metadata.annotations or {}), UNREADABLE: why}
    return stub


def _beyond(text: bytes) -> str:
    """Return the reason why an object exceeds the limits, or an empty text."""
    if len(text) > LARGEST:
        return f"it has {len(text)} bytes, more than {LARGEST}"
    if text.count(b"{") + text.count(b"[") > DEEPEST and _is_deep(_STRINGS.sub(b"", text)):
        return f"it is nested more than {DEEPEST} levels deep"
    return ""


def _is_deep(text: bytes) -> bool:
    """Remove the innermost level repeatedly, which runs in C."""
    brackets = text.translate(None, _OTHERS)
    for _ in range(DEEPEST):
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if not brackets:
            return False
    return True
