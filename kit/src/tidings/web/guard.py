"""Request checks in front of an application, and security headers on every response.

Starlette's `TrustedHostMiddleware` rejects IPv6 addresses and accepts only listed names. Bodies are bounded while they
are read, because a chunked request has no `Content-Length`.
"""

import asyncio
import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidings.conventions import TOKEN_HEADER
from tidings.web.problems import problem

SAFE = ("GET", "HEAD", "OPTIONS")
MAX_BODY = 1024 * 1024
"""Maximum size of a request body in bytes."""
BODY_DEADLINE = 30.0
"""Seconds within which a request body must arrive."""

API_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Content security policy of the services' pages: same-origin files only, nothing inline."""
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
"""Added to every response that does not set them itself."""
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f]*:[0-9a-f:.]*)\]|(?P<name>[\w.-]+))(?::[0-9]{0,5})?", re.ASCII | re.IGNORECASE)
"""A host name or an address, and a port."""
_DECISIVE = frozenset(
    {b"host", b"origin", b"sec-fetch-site", b"content-encoding", b"authorization", TOKEN_HEADER.encode()}
)
_CLOSE = {"Connection": "close"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on requests.

    Attributes:
        hosts: Names of the service besides `localhost` and IP addresses; `*.example.org` is a pattern.
        max_body: Maximum size of a body in bytes.

    """

    hosts: Collection[str] = field(default_factory=tuple)
    max_body: int = MAX_BODY


Admission = Callable[[Request], None]
"""Checks a request before its body is read. Raises Starlette's HTTPException to reject it."""


class Guard:
    """ASGI middleware that rejects invalid requests and adds security headers to every response."""

    def __init__(self, app: ASGIApp, limits: Limits, admit: Admission | None = None) -> None:
        self._app, self._limits, self._admit = app, limits, admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and pass it on."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = False

        async def secured(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = [*message.get("headers", ())]
                present = {name.lower() for name, _ in headers}
                headers += [header for header in _HEADERS if header[0] not in present]
                message["headers"] = headers
            await send(message)

        try:
            check_address(scope["path"], scope["query_string"])
            check_repeated(scope)
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            check(scope["method"], headers, self._limits)
            if self._admit:
                self._admit(Request(scope))
            bounded = BoundedBody(receive, self._limits.max_body, BODY_DEADLINE)
            await self._app(scope, bounded.receive, secured)
        except HTTPException as error:  # raised here, or while reading a body outside of FastAPI
            if started:
                raise
            await problem(error.status_code, error.detail, headers=error.headers)(scope, receive, secured)


def check_address(path: str, query: bytes) -> None:
    """Reject an address with NUL characters, which some stores cannot keep.

    Raises:
        HTTPException: 400.

    """
    if "\0" in path or b"%00" in query:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the address contains a NUL character; remove it")


def check_repeated(scope: Scope) -> None:
    """Reject a request that repeats a security-relevant header: a proxy may have read the other value.

    Raises:
        HTTPException: 400.

    """
    names = [name for name, _ in scope["headers"] if name in _DECISIVE]
    if len(names) > len({*names}):
        raise HTTPException(HTTPStatus.BAD_REQUEST, "a header that may occur once is repeated; send it once")


def check(method: str, headers: Mapping[str, str], limits: Limits) -> None:
    """Check the method and headers of a request.

    Raises:
        HTTPException: 421, the host is not served here; 403, the request is cross-site; 413, the body is too large;
            415, the body is compressed.

    """
    if not is_trusted(headers.get("host", ""), limits.hosts):
        raise HTTPException(
            HTTPStatus.MISDIRECTED_REQUEST,
            "this host name is not served here; add it to TIDINGS_HOSTS if it is one of the service's own",
        )
    if is_cross_site(method, headers):
        raise HTTPException(HTTPStatus.FORBIDDEN, "cross-site requests are not allowed: use the service's own page")
    if headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body without Content-Encoding", _CLOSE)
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > limits.max_body):  # noqa: PLR2004
        raise _too_large(limits.max_body)


def is_trusted(host: str, names: Collection[str]) -> bool:
    """Return True if a `Host` header names this service.

    In a DNS rebinding attack, the header holds the attacker's domain name. Therefore only listed names, `localhost` and
    IP addresses are trusted.
    """
    name, is_local = _host(host)
    return is_local or (name is not None and any(fnmatchcase(name, trusted.lower()) for trusted in names))


@lru_cache(maxsize=256)  # a sidecar sends the same header with every event
def _host(host: str) -> tuple[str | None, bool]:
    """Return the name in a `Host` header, and whether it is immune to DNS rebinding."""
    match = _HOST.fullmatch(host)
    if match is None:
        return None, False
    name = (match["v6"] or match["name"]).lower().rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name, name == "localhost"
    return name, True


def is_cross_site(method: str, headers: Mapping[str, str]) -> bool:
    """Return True if another site made a browser send a request that may change state.

    Browsers send `Sec-Fetch-Site` over HTTPS and to localhost only, otherwise `Origin` (Fetch Metadata, section 2).
    Other clients send neither. Cross-site reads are harmless, because no response allows another site to see it.
    """
    if method in SAFE:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


class BoundedBody:
    """A request body with a size limit and a deadline.

    Args:
        receive: ASGI receive function of the request.
        most: Maximum size in bytes.
        deadline: Seconds within which the body must arrive.

    """

    def __init__(self, receive: Receive, most: int, deadline: float) -> None:
        self._receive, self._most, self._seconds = receive, most, deadline
        self._until: float | None = None
        self._read = 0
        self._complete = False

    async def receive(self) -> Message:
        """Receive the next part. Once the body is complete, wait for the client's disconnect without a deadline.

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
    detail = f"the request body exceeds {most} bytes; send a smaller one"
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, _CLOSE)
