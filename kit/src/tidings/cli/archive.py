"""The archive, for the command line: its HTTP API, with errors that say what to do."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any

import httpx2
import typer

from tidings.cli.output import refusal

_DEADLINE = 30.0
_PAGE = 500

Url = Annotated[
    str, typer.Option("--archive", envvar="TIDINGS_ARCHIVE_URL", help="Where the archive is.", show_default=True)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
DEFAULT = "http://127.0.0.1:8009"


TOKEN_VARIABLE = "TIDINGS_ARCHIVE_TOKEN"  # noqa: S105 - its name
"""Environment variable with the token of an archive that asks for one: an argument would stand in the process list."""


class Archive:
    """The archive at an address. What it refuses ends the command with exit code 1."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise typer.BadParameter(f"{url!r} is no address of an archive: write http://HOST:PORT")
        self._url = url.rstrip("/")
        token = os.environ.get(TOKEN_VARIABLE)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Ask for something; values that are None are left out."""
        return self._asked("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: dict[str, Any], **query: str) -> dict[str, Any]:
        """Have something done."""
        return self._asked("POST", path, json=body, params=query)

    def tried(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Have something done that may be refused: the answer, or why not."""
        answer = self._answer("POST", path, json=body)
        return (answer.json(), "") if answer.is_success else ({}, _why(answer))

    def pages(self, path: str, items: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Everything on all pages."""
        cursor: int | None = None
        while True:
            page = self.get(path, limit=_PAGE, cursor=cursor, **query)
            yield from page[items]
            cursor = page["next"]
            if cursor is None:
                return

    def _asked(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        answer = self._answer(method, path, **how)
        if not answer.is_success:
            raise refusal(f"{self._url}: {_why(answer)}")
        found: dict[str, Any] = answer.json()
        return found

    def _answer(self, method: str, path: str, **how: Any) -> httpx2.Response:
        try:
            return httpx2.request(method, f"{self._url}{path}", headers=self._headers, timeout=_DEADLINE, **how)
        except httpx2.TransportError as error:
            message = f"no archive answers at {self._url} ({error}): start it, or say where it is with --archive"
            raise refusal(message) from error


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is done, unless that was answered beforehand; without a person to ask, it is not done."""
    if not yes:
        typer.confirm(question, abort=True)


def me() -> str:
    """Who decides this, for the archive's audit."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _why(answer: httpx2.Response) -> str:
    """The refusal in words: a problem detail's, else the status."""
    try:
        detail = answer.json().get("detail")
    except (ValueError, AttributeError):
        detail = None
    why = str(detail or f"{answer.status_code} {answer.reason_phrase}")
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        is_set = bool(os.environ.get(TOKEN_VARIABLE))
        return f"{why} " + (f"({TOKEN_VARIABLE} holds another one)" if is_set else f"(set {TOKEN_VARIABLE} to it)")
    return why
