"""The archive's HTTP API, as far as replays need it.

It knows each replay by an id that we choose: asked for twice, it is one.
"""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Self

import aiohttp
import msgspec

TIMEOUT = 15.0
PAGE = 100


class ArchiveError(Exception):
    """The archive refused (`is_final`), or could not be asked."""

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


class Archive:
    """One archive; a session of its own, which carries no credentials of the API server."""

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def begin(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for a replay; a dry run only counts."""
        return await self._request("POST", "/replays", order)

    async def cancel(self, replay: str, by: str) -> None:
        """End a replay; one that has ended, or never begun, stays as it is."""
        await self._request("POST", f"/replays/{replay}/cancel", params={"by": by}, may_lack=True)

    async def dead_event(self, number: int) -> dict[str, Any]:
        """Return the event of a dead letter."""
        letter = await self._request("GET", f"/deadletters/{number}")
        return dict(letter["event"])

    async def open_dead_letters(self, wanted: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Yield the dead letters that wait for a decision, the latest first."""
        cursor = ""
        while True:
            params = {**wanted, "state": "open", "limit": str(PAGE), **({"cursor": cursor} if cursor else {})}
            page = await self._request("GET", "/deadletters", params=params)
            for letter in page["deadLetters"]:
                yield letter
            if page["next"] is None:
                return
            cursor = str(page["next"])

    async def replay_dead_letter(self, number: int, by: str, subscription: str) -> None:
        """Send a dead letter again."""
        await self._request("POST", f"/deadletters/{number}/replay", {"by": by, "subscription": subscription})

    async def _request(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        *,
        may_lack: bool = False,
    ) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("the archive is used before it is entered")
        data = None if body is None else msgspec.json.encode(body)
        url = self._url + path
        try:
            async with self._session.request(method, url, data=data, params=params, headers=self._headers) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            said = str(error) or "no answer in time"
            raise ArchiveError(f"the archive at {self._url} cannot be reached: {said}", is_final=False) from error
        if may_lack and response.status == HTTPStatus.NOT_FOUND:
            return {}
        if response.ok:
            found: dict[str, Any] = msgspec.json.decode(answer)
            return found
        final = response.status in (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
        raise ArchiveError(
            f"the archive answers {response.status}: {answer[:300].decode('utf-8', 'replace')}", is_final=final
        )
