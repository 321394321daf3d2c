"""The checks that every request passes before an application sees it, and the headers that every answer carries.

Starlette's `TrustedHostMiddleware` refuses IPv6 addresses and knows only names from a list; here that check is one
function. Bodies are bounded where they are read: a `Content-Length` header alone says nothing about a chunked body.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidings.web.problems import problem

SAFE = ("GET", "HEAD", "OPTIONS")
MAX_BODY = 1024 * 1024
"""Bytes of a request's body."""
BODY_DEADLINE = 30.0
"""Seconds in which a request's body must have arrived."""

API_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The content security policy of the pages that services serve: their own files only, nothing inline."""
HEADERS = {
    "Content-Security-Policy": API_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
"""Sent with every answer that does not set them itself."""
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_NO_HOST = re.compile(r"[^\w.:\[\]-]", re.ASCII)
"""What is no part of a host name, an address or a port."""
_DECISIVE = frozenset({b"host", b"origin", b"sec-fetch-site", b"content-encoding", b"authorization", b"dapr-api-token"})
_CLOSE = {"Connection": "close"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may be.

    Attributes:
        hosts: Names of the service, beside `localhost` and IP addresses; `*.example.org` is a pattern.
        max_body: Bytes of a body.

    """

    hosts: Collection[str] = field(default_factory=tuple)
    max_body: int = MAX_BODY


Admission = Callable[[Request], None]
"""Judges a request before anything of its body is read; what is refused raises Starlette's HTTPException."""


class Guard:
    """ASGI middleware: refuses what no request may be, and secures every answer."""

    def __init__(self, app: ASGIApp, limits: Limits, admit: Admission | None = None) -> None:
        self._app, self._limits, self._admit = app, limits, admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if it may be answered."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = False

        async def secured(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _secure(message)
            await send(message)

        try:
            check_address(scope["path"], scope["query_string"])
            check_repeated(scope)
            check(scope["method"], _headers(scope), self._limits)
            if self._admit:
                self._admit(Request(scope))
            bounded = BoundedBody(receive, self._limits.max_body, BODY_DEADLINE)
            await self._app(scope, bounded.receive, secured)
        except HTTPException as error:  # raised here, or while reading a body outside of FastAPI
            if started:
                raise
            await problem(error.status_code, error.detail, headers=error.headers)(scope, receive, secured)


def check_address(path: str, query: bytes) -> None:
    """Refuse an address with NUL characters, which not every store keeps.

    Raises:
        HTTPException: 400.

    """
    if "\0" in path or b"%00" in query:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "an address has no NUL characters; leave them out")


def check_repeated(scope: Scope) -> None:
    """Refuse a request that states twice what decides about it: a proxy may have read the other one.

    Raises:
        HTTPException: 400.

    """
    names = [name for name, _ in scope["headers"] if name in _DECISIVE]
    if len(names) > len({*names}):
        raise HTTPException(HTTPStatus.BAD_REQUEST, "a header that may be there once is there twice; send one")


def check(method: str, headers: Mapping[str, str], limits: Limits) -> None:
    """Judge a request by its head.

    Raises:
        HTTPException: 421, it is meant for another host; 403, another site made a browser send it; 413, its body is too
            large; 415, its body is compressed.

    """
    if not is_trusted(headers.get("host", ""), limits.hosts):
        raise HTTPException(
            HTTPStatus.MISDIRECTED_REQUEST,
            "this host name is not served here; add it to TIDINGS_HOSTS if it is one of the service's own",
        )
    if is_cross_site(method, headers):
        raise HTTPException(HTTPStatus.FORBIDDEN, "another site may not ask for this: open the service's own page")
    if headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body without Content-Encoding", _CLOSE)
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > limits.max_body):  # noqa: PLR2004
        raise _too_large(limits.max_body)


def is_trusted(host: str, names: Collection[str]) -> bool:
    """Whether a `Host` header names this service.

    An attacker who rebinds a domain name to this address sends that name: only listed names, `localhost` and plain IP
    addresses, which nobody can rebind, are trusted.
    """
    name, is_local = _host(host)
    return is_local or (name is not None and any(fnmatchcase(name, each.lower()) for each in names))


@lru_cache(maxsize=256)  # a sidecar sends the same with each event
def _host(host: str) -> tuple[str | None, bool]:
    """Return the name in a `Host` header, and whether nobody can rebind it."""
    if _NO_HOST.search(host):
        return None, False
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return None, False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name, name == "localhost"
    return name, True


def is_cross_site(method: str, headers: Mapping[str, str]) -> bool:
    """Whether another site makes a browser send a request that may change something.

    Browsers send `Sec-Fetch-Site` over HTTPS and to this machine only, else `Origin` (Fetch Metadata, section 2).
    Programs send neither. What is only read stays with the browser: no answer allows another site to see it.
    """
    if method in SAFE:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


class BoundedBody:
    """A request's body, which has an end in bytes and in time.

    Args:
        receive: Where it comes from.
        most: Bytes that it may have.
        deadline: Seconds in which it must have arrived.

    """

    def __init__(self, receive: Receive, most: int, deadline: float) -> None:
        self._receive, self._most, self._seconds = receive, most, deadline
        self._until: float | None = None
        self._read = 0
        self._complete = False

    async def receive(self) -> Message:
        """Receive the next part; once the body is complete, wait for the client to go away for as long as it takes.

        Raises:
            HTTPException: 413, the body is too large; 408, it takes too long.

        """
        if self._complete:
            return await self._receive()
        now = asyncio.get_running_loop().time()
        self._until = self._until or now + self._seconds
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            detail = f"the body did not arrive within {self._seconds:g} s"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail, _CLOSE) from None
        self._read += len(message.get("body", b""))
        if self._read > self._most:
            raise _too_large(self._most)
        self._complete = not message.get("more_body", False)
        return message


def _too_large(most: int) -> HTTPException:
    detail = f"a request has at most {most} bytes; send a smaller one"
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, _CLOSE)


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _secure(message: dict[str, Any] | Message) -> None:
    headers = [*message.get("headers", ())]
    present = {name.lower() for name, _ in headers}
    headers += [header for header in _HEADERS if header[0] not in present]
    message["headers"] = headers
