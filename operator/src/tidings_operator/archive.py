"""Client of the archives' HTTP API for replays.

Each namespace has its own archive. The operator chooses the id of a replay, so requests are idempotent.
"""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from tidings.messages.envelope import UNREADABLE
from tidings.terminal import printable
from tidings.web.answers import AnswerTooLarge, collect
from tidings_operator.untrusted import InvalidToken, open_session, read_token

TIMEOUT = 15.0
PAGE = 100
LARGEST = 64 * 1024 * 1024
"""Maximum size of a response in bytes: a page of dead letters, each with an event."""


class ArchiveError(Exception):
    """The archive rejected the request (`is_final`), or is unavailable."""

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


class Archives:
    """The archive of each namespace.

    Args:
        url: URL of an archive, in which `{namespace}` stands for the namespace.
        tokens: Folder with a file per namespace, named like it, that holds its archive's token; empty: no tokens.

    """

    def __init__(self, url: str, tokens: str = "") -> None:
        self._url = url
        self._tokens = tokens
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A separate session without the API server's credentials.
        self._session = open_session(TIMEOUT)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    def of(self, namespace: str) -> "Archive":
        """Return the archive of a namespace. Its token is sent to this archive only."""
        if self._session is None:
            raise RuntimeError("the archives are used before they are entered")
        token_file = str(Path(self._tokens) / namespace) if self._tokens else ""
        return Archive(self._url.replace("{namespace}", namespace), token_file, self._session)


class Archive:
    """One archive, created by `Archives.of`."""

    def __init__(self, url: str, token_file: str, session: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._session = session

    async def begin(self, order: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Request a replay; a dry run only counts."""
        return await self._request("POST", "/replays", order, {"dryRun": "true"} if dry_run else None)

    async def cancel(self, replay: str, by: str) -> None:
        """Cancel a replay; a completed or unknown one is not changed."""
        await self._request("POST", f"/replays/{replay}/cancel", params={"by": by}, may_lack=True)

    async def dead_event(self, number: int) -> dict[str, Any]:
        """Return the event of a dead letter."""
        letter = await self._request("GET", f"/deadletters/{number}")
        return dict(letter["event"])

    async def open_dead_letters(self, criteria: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Yield the undecided dead letters, the latest first."""
        cursor = ""
        while True:
            params = {**criteria, "state": "open", "limit": str(PAGE), **({"cursor": cursor} if cursor else {})}
            page = await self._request("GET", "/deadletters", params=params)
            for letter in page["deadLetters"]:
                yield letter
            if page["next"] is None:
                return
            cursor = str(page["next"])

    async def replay_dead_letter(self, number: int, by: str, subscription: str, batch: str) -> None:
        """Replay a dead letter as a part of a batch."""
        body = {"by": by, "subscription": subscription, "batch": batch}
        await self._request("POST", f"/deadletters/{number}/replay", body)

    async def notify(self, kind: str, data: Mapping[str, Any]) -> None:
        """Notify owners; the archive drops a notice that it sent within the silence period."""
        await self._request("POST", "/notices", {"type": kind, "data": data})

    async def outcomes(self, batch: str) -> dict[str, int]:
        """Return the number of sent dead letters of a batch, and the outcomes confirmed by their consumer."""
        return await self._request("GET", "/deadletters/outcomes", params={"batch": batch})

    async def skipped(self, replay: str) -> list[str]:
        """Return the first events that a replay could not send, with the reasons."""
        answer = await self._request("GET", f"/replays/{replay}")
        return [str(event) for event in answer["skippedEvents"]]

    async def _headers(self) -> dict[str, str]:
        """Return the headers of a request.

        The token is read for each request, because its Secret may appear late and change.

        Raises:
            ArchiveError: The token cannot be read, or cannot be sent in a header.

        """
        headers = {"Content-Type": "application/json"}
        try:
            token = await read_token(Path(self._token_file)) if self._token_file else ""
        except InvalidToken as error:
            raise ArchiveError(f"the token {error}", is_final=False) from error
        return {**headers, "Authorization": f"Bearer {token}"} if token else headers

    async def _request(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        *,
        may_lack: bool = False,
    ) -> dict[str, Any]:
        data = None if body is None else msgspec.json.encode(body)
        asked = self._session.request(
            method, self._url + path, data=data, params=params, headers=await self._headers(), allow_redirects=False
        )
        try:
            async with asked as response:
                answer = await collect(response.content.iter_any(), LARGEST)
        except (aiohttp.ClientError, TimeoutError, AnswerTooLarge) as error:
            reason = str(error) or "no answer in time"
            raise ArchiveError(f"the archive at {self._url} cannot be reached: {reason}", is_final=False) from error
        if may_lack and response.status == HTTPStatus.NOT_FOUND:
            return {}
        if response.status in (HTTPStatus.OK, HTTPStatus.ACCEPTED):
            return self._read(answer)
        final = response.status in (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
        reason = f"the archive answers {response.status}: {printable(answer[:300].decode('utf-8', 'replace'))}"
        if response.status == HTTPStatus.UNAUTHORIZED:
            reason = f"{reason} The operator sends what {self._token_file or 'TIDINGS_OPERATOR_ARCHIVE_TOKENS'} holds."
        raise ArchiveError(reason, is_final=final)

    def _read(self, answer: bytes) -> dict[str, Any]:
        try:
            decoded: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
        except UNREADABLE as error:
            raise ArchiveError(f"the server at {self._url} is not an archive: {error}", is_final=False) from error
        return decoded
