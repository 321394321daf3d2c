"""Makes odd events of ordinary ones: changed attributes, changed data, and changed bytes."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus"
NAMES = [
    "id", "source", "type", "specversion", "version", "subject", "time", "datacontenttype", "correlationid",
    "causationid", "traceparent", "tracestate", "traceid", "replayto", "replayid", "eventid", "pubsubname", "topic",
    "data_base64", "data", "originalid", "failurereason", "expiration", "", "dataschema", "Ünknown", "entries",
]  # fmt: skip
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31 - 1, 2**31, -(2**63), 10**20, 1.0, 1e308, -0.0, "", " ", "\0", "\n", "\x1b[2J",
    "\x7f", "\u0085", "\u202e", "\ufffe", "\U0001f355", "\ud800", "a||b", "/", "..", "%00", "sha256:0", "x" * 300,
    "x" * 9_000, "x" * 17_000, "1", "2", "01", "9999", "10000", "9" * 5_000, "²", "1.0", "1.0.1", "0.3", [], {}, [[]],
    {"a": 1}, [None], "2026-11-28T10:00:00", "2026-11-28T10:00:00Z", "2026-12-31T23:59:60Z", "2026-11-28t10:00+23:59",
    "0000-01-01T00:00:00Z", "9999-12-31T23:59:60Z", "com.dapr.event.sent.bulk", "shop.itemSold", "e30=", "@@", "*",
    "application/json", "application/octet-stream", "application/cloudevents+json; charset=utf-16", "<img src=x>",
]  # fmt: skip


def corpus() -> list[dict[str, Any]]:
    """Read the events that have made trouble, here or elsewhere."""
    result: list[dict[str, Any]] = []
    for path in sorted(CORPUS.glob("*.json")):
        try:
            read = json.loads(path.read_text())
        except RecursionError:
            continue  # `raw_corpus` has it
        result += read if isinstance(read, list) else [read]
    return result


def raw_corpus() -> list[bytes]:
    """Read the same events as bytes, where a file holds one."""
    return [body for path in sorted(CORPUS.glob("*.json")) if not (body := path.read_bytes()).startswith(b"[")]


def mutate(base: dict[str, Any], chance: random.Random) -> bytes:
    """Make an odd event of an ordinary one, the same for the same state of `chance`."""
    event = dict(base)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
        chance.choice(_CHANGES)(event, chance)
    items = list(event.items())
    if chance.random() < 0.2:
        chance.shuffle(items)
    if chance.random() < 0.1 and items:
        items.append((chance.choice(items)[0], chance.choice(ODD)))  # a key twice
    text = ",".join(f"{json.dumps(name)}:{_json(value, chance)}" for name, value in items)
    body = f"{{{text}}}".encode(errors="surrogatepass")
    return chance.choice(_BYTES)(body, chance) if chance.random() < 0.25 else body


def _json(value: Any, chance: random.Random) -> str:
    return json.dumps(value, ensure_ascii=chance.random() < 0.5)


def _set(event: dict[str, Any], chance: random.Random) -> None:
    event[chance.choice(NAMES)] = chance.choice(ODD)


def _remove(event: dict[str, Any], chance: random.Random) -> None:
    event.pop(chance.choice(NAMES), None)


def _change_data(event: dict[str, Any], chance: random.Random) -> None:
    if not isinstance(event.get("data"), dict):
        return
    data = dict(event["data"])
    data[chance.choice([*data, "more"])] = chance.choice(ODD)
    event["data"] = data


def _nest(event: dict[str, Any], chance: random.Random) -> None:
    value: Any = chance.choice(ODD)
    for _ in range(chance.choice([3, 126, 127, 128, 200])):
        value = [value] if chance.random() < 0.5 else {"a": value}
    event[chance.choice(["data", "data", "unknown", "subject"])] = value


def _binary(event: dict[str, Any], chance: random.Random) -> None:
    content = json.dumps(event.pop("data", None)).encode()
    event["data_base64"] = base64.b64encode(chance.choice(_BYTES)(content, chance)).decode()


def _same(body: bytes, _chance: random.Random) -> bytes:
    return body


def _flip(body: bytes, chance: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(chance.choice([1, 1, 2, 8])):
        if changed:
            changed[chance.randrange(len(changed))] = chance.choice(_ODD_BYTES)
    return bytes(changed)


def _insert(body: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(body) + 1)
    return body[:place] + chance.choice(_INSERTED) + body[place:]


def _cut(body: bytes, chance: random.Random) -> bytes:
    return body[: chance.randrange(len(body) + 1)]


def _encode(body: bytes, chance: random.Random) -> bytes:
    encoding = chance.choice(["utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
    return body.decode(errors="replace").encode(encoding, errors="replace")


def _deep(body: bytes, chance: random.Random) -> bytes:
    deep = chance.choice([500, 1_200, 9_000])
    return body[:-1] + b',"deep":' + b"[" * deep + b"]" * deep + b"}"


def _compress(body: bytes, _chance: random.Random) -> bytes:
    return gzip.compress(body)


def _wrap(body: bytes, chance: random.Random) -> bytes:
    return chance.choice([b"[%s]", b'"%s"', b"%s%s", b" %s ", b"null"]).replace(b"%s", body)


_ODD_BYTES = b'\0"\\{}[],:0azZ\x7f\x80\xff\xed'
_INSERTED = [
    b"\xff", b"\0", b'"', b"\\", b"\\ud800", b"NaN", b"[" * 1_500, b"{" * 3, b"\xed\xa0\x80", b"1e999",
]  # fmt: skip
_Change = Callable[[dict[str, Any], random.Random], None]
_CHANGES: list[_Change] = [_set, _set, _set, _remove, _change_data, _nest, _binary]
_ChangeBytes = Callable[[bytes, random.Random], bytes]
_BYTES: list[_ChangeBytes] = [_same, _flip, _flip, _insert, _cut, _encode, _deep, _compress, _wrap]
