"""Any number, text or cursor in any API gets 2xx or 4xx: schemathesis on each service's OpenAPI, and a hostile corpus.

Every service runs as it is wired in its `main`, on the sidecar's twin and on SQLite; the archive also on PostgreSQL,
which takes less than SQLite does. FUZZ_EXAMPLES makes it longer.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import psycopg
import pytest
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from schemathesis.core.result import Ok
from tests.support.contracts import contract_files

from tidings.dapr.client import DaprSidecar
from tidings.testing import MemorySidecar
from tidings.testing.asgi import lifespan
from tidings_cli.testing.fixtures import ports, postgres

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
ROOT = Path(__file__).parents[2]
SERVICES = sorted(item.name for item in (ROOT / "services").iterdir() if (item / "pyproject.toml").is_file())
ON_POSTGRESQL = "archive-on-postgresql"
PATIENCE = 60.0
pytestmark = pytest.mark.timeout(max(120, 4 * EXAMPLES))  # a longer run may take longer
__all__ = ["ports", "postgres"]

TEXTS = [
    "",
    "\x00",
    "a\x00b",
    "\ud800",
    "'\"\\`;--",
    "../../../etc/passwd",
    "..",
    "a/b",
    "a||b",
    "%00%2e%2e%2f",
    "\r\nX-Evil: 1",
    "\x1b[31m",
    "\u202e\ufeff",
    "٣",
    "-1",
    "0",
    "99999999999999999999",
    "-99999999999999999999",
    "9" * 5000,
    "1e400",
    "NaN",
    "Infinity",
    "null",
    "x" * 9000,
    "2026-01-01T00:00:00",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59",
    "2026-12-31T23:59:60Z",
    "1_000",
    "\u22125",
    "0" * 5000 + "1",
    "9223372036854775808",
    'NEAR(a b "unclosed',
    "NOT",
    "99999999999999",
    "W251bGwsbnVsbF0",
    "a\u2028b",
    "\U0001f355" * 1000,
]
VALUES: list[bytes] = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"\x00",
    b"\xff\xfe",
    b'"text"',
    b"NaN",
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b"1" * 5000,
    b"[" * 100_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b'{"\\ud800": "\\ud800"}',
    b'{"a": 1, "a": 2}',
]
HOSTILE: list[Any] = [
    *TEXTS,
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    -(2**63) - 1,
    10**19,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [[[[]]]],
    ["x"] * 1000,
]


@dataclass
class Api:
    """A running service, and its description."""

    loop: asyncio.AbstractEventLoop
    client: httpx2.AsyncClient
    schema: dict[str, Any]

    def ask(self, method: str, path: str, **sent: Any) -> httpx2.Response:
        async def answer() -> httpx2.Response:
            async with asyncio.timeout(PATIENCE):
                return await self.client.request(method, f"http://127.0.0.1{path}", **sent)

        return self.loop.run_until_complete(answer())

    @property
    def operations(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Yield method, path and description of every operation that answers and ends."""
        return [
            (method.upper(), path, about)
            for path, methods in self.schema["paths"].items()
            for method, about in methods.items()
            if "text/event-stream" not in json.dumps(about.get("responses", {})) and not path.endswith("/stream")
        ]


def wired(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    """Return the application of a service's `main`, with a twin for its sidecar and a folder of its own."""
    monkeypatch.setenv("TIDINGS_DATA", str(folder))
    monkeypatch.setenv("TIDINGS_LOG_LEVEL", "CRITICAL")
    for upstream in ("ORDERS", "MENU", "TRACKING"):
        monkeypatch.setenv(f"STOREFRONT_{upstream}_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(DaprSidecar, "from_settings", classmethod(lambda _cls, _settings: MemorySidecar(name)))
    package = "tidings_archive" if name == "archive" else name
    chosen = sys.modules.get(f"{package}.settings")
    if chosen is not None and hasattr(chosen, "settings"):
        chosen.settings.cache_clear()
    monkeypatch.delitem(sys.modules, f"{package}.main", raising=False)
    return importlib.import_module(f"{package}.main").app


def examples(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield an event of each kind that a service may read, as its sidecar delivers it."""
    for number, file in enumerate(contract_files("examples/*.json")):
        kind, _, version = file.stem.rpartition(".v")
        if not version.isdecimal():
            continue
        attributes = {"id": f"e-{number}", "source": kind.split(".")[0], "type": kind, "version": version}
        event = {
            "specversion": "1.0",
            "time": "2026-03-14T12:00:00Z",
            **attributes,
            "data": json.loads(file.read_text()),
        }
        yield f"/events/{file.stem}", json.dumps(event).encode()


@contextmanager
def database(server: str) -> Iterator[str]:
    """Yield the URL of an empty PostgreSQL database."""
    name = f"fuzz_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        yield sa.make_url(server).set(database=name).render_as_string()
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(params=[*SERVICES, pytest.param(ON_POSTGRESQL, marks=pytest.mark.real)])
def api(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    with ExitStack() as stack:
        name = "archive" if request.param == ON_POSTGRESQL else request.param
        if request.param == ON_POSTGRESQL:
            url = stack.enter_context(database(request.getfixturevalue("postgres")))
            monkeypatch.setenv("ARCHIVE_DATABASE_URL", url)
        runner = stack.enter_context(asyncio.Runner())
        loop = runner.get_loop()
        app = wired(name, monkeypatch, tmp_path)
        life = lifespan(app)
        loop.run_until_complete(life.__aenter__())
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app, raise_app_exceptions=False))
        actual = Api(loop, client, {})
        actual.schema = actual.ask("GET", "/openapi.json").json()
        for path, event in examples(name):
            actual.ask("POST", path, content=event)
        try:
            yield actual
        finally:
            loop.run_until_complete(client.aclose())
            loop.run_until_complete(life.__aexit__(None, None, None))


def check(answer: httpx2.Response) -> None:
    """Expect 2xx or 4xx, or 503 where the storefront names the missing service or orders has no menu yet."""
    if answer.status_code in (502, 503):
        assert answer.headers["content-type"] == "application/problem+json"
        assert "retry-after" in answer.headers
    else:
        assert answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {answer.text[:500]}"


def test_what_the_description_allows_and_what_it_forbids(api: Api) -> None:
    described = schemathesis.openapi.from_dict(api.schema)
    expected = {(method, path) for method, path, _ in api.operations}
    operations = [item.ok() for item in described.get_all_operations() if isinstance(item, Ok)]
    operations = [item for item in operations if (item.method.upper(), item.path) in expected]

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=EXAMPLES <= 25,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        operation = data.draw(st.sampled_from(operations))
        modes = list(schemathesis.GenerationMode) if list(operation.iter_parameters()) or operation.body else []
        mode = data.draw(st.sampled_from(modes or [schemathesis.GenerationMode.POSITIVE]))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        sent: dict[str, Any] = {"params": dict(case.query or {})}
        if isinstance(case.body, bytes):
            sent["content"] = case.body
        elif type(case.body).__name__ != "NotSet":
            sent |= {"content": json.dumps(case.body, default=str), "headers": {"Content-Type": "application/json"}}
        check(api.ask(case.method, quote(case.formatted_path, safe="/%"), **sent))

    fuzz()


def test_hostile_paths_and_queries(api: Api) -> None:
    for method, path, about in api.operations:
        names = [item for item in about.get("parameters", ()) if item["in"] == "query"]
        for text in TEXTS:
            encoded = quote(text, safe="", errors="surrogatepass")
            if "{" in path:
                parts = [encoded if part.startswith("{") else part for part in path.split("/")]
                check(api.ask(method, "/".join(parts)))
            for item in names:
                check(api.ask(method, f"{path.replace('{', '').replace('}', '')}?{item['name']}={encoded}"))


def test_hostile_bodies(api: Api) -> None:
    for method, path, about in api.operations:
        if "requestBody" not in about:
            continue
        where = path.replace("{", "").replace("}", "")
        for body in VALUES:
            for media in ("application/json", "multipart/form-data"):
                check(api.ask(method, where, content=body, headers={"Content-Type": media}))
        fields = _properties(api.schema, about["requestBody"]["content"]["application/json"]["schema"])
        good = {name: _good(api.schema, item) for name, item in fields.items()}
        for name, value in ((name, value) for name in fields for value in HOSTILE):
            check(api.ask(method, where, content=json.dumps({**good, name: value}), headers=_JSON))


_JSON = {"Content-Type": "application/json"}
HEADERS = [
    "accept", "accept-encoding", "authorization", "baggage", "content-length", "content-type", "cookie",
    "dapr-api-token", "forwarded", "if-modified-since", "if-none-match", "idempotency-key", "last-event-id", "origin",
    "range", "referer", "sec-fetch-site", "traceparent", "tracestate", "transfer-encoding", "x-forwarded-for",
]  # fmt: skip
HEADER_VALUES = [
    b"", b" ", b"\x00", b"\xff\xfe", b"a\x00b", "\u0663".encode(), b"9" * 5000, b"-1", b"1e400", b"*", b"bytes=-1-5",
    b"bytes=9999999999999999999999-", b"application/json; charset=utf-16", b"text/plain; charset=\xff",
    b"application/json; charset=no-such-encoding", b"multipart/form-data",
    b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00",
    b"ff-" + b"f" * 32 + b"-" + b"f" * 16 + b"-zz", b"a=b;" * 2000, b"%00%ff=%GG", b"Bearer \xe9", b"Basic ====",
    b"1-confirmed", b"-", b"a-9223372036854775808", "0-\u00b2".encode(), b"Thu, 99 Foo 9999 99:99:99 GMT", b'W/"',
    b"gzip;q=1e400",
]  # fmt: skip


def test_hostile_headers(api: Api) -> None:
    operations = itertools.cycle(api.operations)  # each of a service's operations gets its share
    for (name, value), (method, path, about) in zip(
        itertools.product(HEADERS, HEADER_VALUES), operations, strict=False
    ):
        body = {"content": b"{}"} if "requestBody" in about else {}
        headers = {"content-type": b"application/json", name: value}
        check(api.ask(method, path.replace("{", "").replace("}", ""), headers=list(headers.items()), **body))


def _properties(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    actual: Mapping[str, Any] = _resolved(schema, node).get("properties", {})
    return actual


def _resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        node = schema["components"]["schemas"][node["$ref"].rpartition("/")[2]]
    return node


def _good(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Any:
    """Return a value that mostly fits: the more of a request is right, the deeper a hostile field gets."""
    node = _resolved(schema, node)
    if "anyOf" in node:
        node = _resolved(schema, node["anyOf"][0])
    if "enum" in node:
        return node["enum"][0]
    match node.get("type"):
        case "object":
            return {name: _good(schema, item) for name, item in node.get("properties", {}).items()}
        case "array":
            return [_good(schema, node.get("items", {}))]
        case "integer" | "number":
            return max(1, int(node.get("minimum", 1)))
        case "string" if node.get("format") == "date-time":
            return "2026-03-14T12:00:00Z"
    return True if node.get("type") == "boolean" else (node.get("examples") or ["margherita"])[0]
