"""HTTP client of the archive for the command line; its errors tell how to fix them."""

import getpass
import os
import socket
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any

import httpx2
import typer

from tidings.web.answers import PLAIN, AnswerTooLarge
from tidings_cli.output import refusal

_DEADLINE = 30.0  # seconds without a byte
_WHOLE = 300.0  # seconds until an answer must be complete
MAX_ANSWER = 512 * 1024 * 1024
"""Bytes of an answer: a page holds up to 500 events, each of up to a megabyte."""
_PAGE = 500

Url = Annotated[
    str, typer.Option("--archive", envvar="TIDINGS_ARCHIVE_URL", help="URL of the archive.", show_default=True)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the actions without carrying them out.")]
DEFAULT = "http://127.0.0.1:8009"


TOKEN_VARIABLE = "TIDINGS_ARCHIVE_TOKEN"  # noqa: S105 - its name
"""Environment variable with the archive's token. A command-line argument would be visible in the process list."""


class Archive:
    """Client of the archive at a URL. Errors end the command with exit code 1."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise typer.BadParameter(f"{url!r} is not the URL of an archive; write http://HOST:PORT")
        self._url = url.rstrip("/")
        self._headers = request_headers()

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Send a GET request; query values that are None are omitted."""
        return self._request("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: dict[str, Any], **query: str) -> dict[str, Any]:
        """Send a POST request."""
        return self._request("POST", path, json=body, params=query)

    def try_post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Send a POST request that may be refused; return the response body, or the reason of the refusal."""
        response = self._send("POST", path, json=body)
        return (self._object(response), "") if response.is_success else ({}, reason_of(response))

    def pages(self, path: str, items: str, most: int = _PAGE, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of all pages; a caller that needs few says how many `most`."""
        cursor: int | None = None
        while True:
            page = self.get(path, limit=min(most, _PAGE), cursor=cursor, **query)
            yield from page[items]
            previous, cursor = cursor, page["next"]
            if cursor is None:
                return
            if previous is not None and cursor >= previous:
                raise refusal(f"{self._url}{path} is not an archive: page {cursor} follows page {previous}")

    def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        response = self._send(method, path, **options)
        if not response.is_success:
            raise refusal(f"{self._url}: {reason_of(response)}")
        return self._object(response)

    def _object(self, response: httpx2.Response) -> dict[str, Any]:
        try:
            content = response.json()
        except (ValueError, RecursionError) as error:
            raise refusal(f"{self._url} is not an archive: its response is not JSON ({error})") from error
        if not isinstance(content, dict):
            raise refusal(f"{self._url} is not an archive: its response is not a JSON object")
        return content

    def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            url = f"{self._url}{path}"
            return read(method, url, whole=_WHOLE, headers=self._headers, timeout=_DEADLINE, **options)
        except AnswerTooLarge as error:
            raise refusal(f"{self._url}: {error}") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            message = f"no archive answers at {self._url} ({error}): start it, or set its URL with --archive"
            raise refusal(message) from error


def request_headers() -> dict[str, str]:
    """Return the headers of a request to an archive: an uncompressed answer, and the token of the environment."""
    token = os.environ.get(TOKEN_VARIABLE)
    return PLAIN | ({"Authorization": f"Bearer {token}"} if token else {})


def read(method: str, url: str, *, whole: float, **how: Any) -> httpx2.Response:
    """Send a request, and read an answer that is bounded in bytes and in time.

    Args:
        method: HTTP method.
        url: Where to send it.
        whole: Seconds until the answer must be complete.
        how: Options of httpx2.

    Raises:
        httpx2.HTTPError: There is no answer.
        AnswerTooLarge: The response is larger, takes longer, or is compressed although the request did not allow it.

    """
    until = time.monotonic() + whole
    with httpx2.stream(method, url, **how) as answer:
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise AnswerTooLarge("the answer is compressed")
        body = bytearray()
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER:
                raise AnswerTooLarge(f"the answer has more than {MAX_ANSWER} bytes")
            if time.monotonic() > until:
                raise AnswerTooLarge(f"the answer is not complete after {whole:g} s")
        return httpx2.Response(answer.status_code, headers=answer.headers, content=bytes(body))


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation unless `yes` is set. Abort if the answer is no or there is no terminal to ask on."""
    if not yes:
        typer.confirm(question, abort=True)


def me() -> str:
    """Return the current user and host, for the archive's audit log."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def reason_of(response: httpx2.Response) -> str:
    """Return the reason of an error: the detail of a problem document, else the status."""
    try:
        detail = response.json().get("detail")
    except (ValueError, AttributeError, RecursionError):
        detail = None
    reason = str(detail or f"{response.status_code} {response.reason_phrase}")
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        is_set = bool(os.environ.get(TOKEN_VARIABLE))
        return f"{reason} " + (f"({TOKEN_VARIABLE} holds another one)" if is_set else f"(set {TOKEN_VARIABLE} to it)")
    return reason
