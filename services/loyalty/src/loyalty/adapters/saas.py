"""The third-party SaaS that keeps the points, over HTTP: what it calls things and how it fails, in loyalty's words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2
import msgspec

from loyalty.adapters.breaker import Breaker
from loyalty.domain import Gift, Reason, Receipt
from loyalty.provider import Health, Refused, Unavailable
from loyalty.settings import LoyaltySettings
from tidings import Service
from tidings.limits import TokenBucket
from tidings.policy import RateLimit
from tidings.terminal import printable
from tidings.web.answers import PLAIN, AnswerTooLarge, read_bounded

LONGEST_PAUSE = 3600.0
"""Seconds: whoever asks for a longer one by `Retry-After` is asked again after this."""

LONGEST_ANSWER = 64 * 1024
"""Bytes; what the SaaS answers has some 200."""
LONGEST_REASON = 300
"""Characters of its words that are kept."""

_REASONS: Mapping[str, Reason] = {"A404": "accountUnknown", "A423": "accountClosed"}
# Answers of the 400s that are not about the gift: who asks (401, 403), how fast (429), or when (408, 409, 425).
_NOT_THE_GIFT = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_EARLY,
}


class Down(Unavailable):
    """Something is wrong over there, or between: the breaker counts it."""


class Busy(Unavailable):
    """It lives, and asks for a pause: the breaker does not count it."""


class _Posting(msgspec.Struct, frozen=True, rename={"account": "acctRef", "reference": "extRef", "points": "pts"}):
    """What the SaaS takes at `POST /api/v2/TxnPost`."""

    account: str
    reference: str
    points: int
    typ: str = "ERN"


class _Entry(msgspec.Struct, frozen=True, rename={"number": "no", "balance": "balAft"}):
    number: int
    balance: int


class _Posted(msgspec.Struct, frozen=True):
    txn: _Entry


class _Error(msgspec.Struct, frozen=True):
    """How it says no. Any other form was not written by it: a proxy's page, or somebody else at its address."""

    cd: str
    msg: str = ""


class Saas:
    """Gives points through the SaaS; a `Provider`.

    Args:
        settings: Where it is, and how it is treated.
        transport: For tests; the network by default.

    """

    def __init__(self, settings: LoyaltySettings, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._deadline = settings.deadline
        self._bucket = TokenBucket(RateLimit(settings.rate, burst=settings.burst))
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_pause, Down)
        key = settings.saas_key
        self._client = httpx2.AsyncClient(
            base_url=str(settings.saas_url),
            headers=PLAIN | ({"authorization": f"Bearer {key.get_secret_value()}"} if key else {}),
            timeout=settings.deadline,
            transport=transport,
        )

    @asynccontextmanager
    async def opened(self, _service: Service) -> AsyncIterator[None]:
        """Keep the connections while the service runs."""
        async with self._client:
            yield

    @property
    def health(self) -> Health:
        return Health(self._breaker.state, self._breaker.failures, round(self._breaker.remaining, 3))

    async def give(self, gift: Gift) -> Receipt:
        """Post the points under the order's id as `Idempotency-Key`: the SaaS enters each key once.

        Raises:
            Unavailable: It did not answer, failed, asks for a pause, or the breaker is open.
            Refused: It will not give them.

        """
        with self._breaker():
            await self._bucket.acquire()
            response = await self._post(gift)
            pause = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
            if pause is not None:
                self._bucket.pause(pause)
            return read(response, pause)

    async def _post(self, gift: Gift) -> httpx2.Response:
        """Post, and read the answer as far as any of theirs could go."""
        body = msgspec.json.encode(_Posting(gift.customer_id, gift.order_id, gift.points))
        headers = {"idempotency-key": gift.order_id, "content-type": "application/json"}
        try:
            async with asyncio.timeout(self._deadline):
                asked = self._client.build_request("POST", "api/v2/TxnPost", content=body, headers=headers)
                answer = await self._client.send(asked, stream=True)
                content = await read_bounded(answer, LONGEST_ANSWER)
                return httpx2.Response(answer.status_code, headers=answer.headers, content=content)
        except AnswerTooLarge as error:
            raise Down(f"the SaaS: {error}") from error
        except TimeoutError as error:
            raise Down(f"the SaaS did not answer within {self._deadline:g} s") from error
        except httpx2.HTTPError as error:
            raise Down(f"the SaaS cannot be reached: {type(error).__name__}: {error}") from error


def read(response: httpx2.Response, pause: float | None) -> Receipt:
    """Read the SaaS's answer; `pause` is what it asks for.

    Only what it says itself in the form of its errors is a refusal. Whatever else is no success may be a proxy's or a
    wrong address's: no member loses points over that.

    Raises:
        Unavailable: To be asked again.
        Refused: Not to be asked again.

    """
    status = response.status_code
    if response.is_success:
        try:
            entry = msgspec.json.decode(response.content, type=_Posted).txn
        except msgspec.MsgspecError as error:
            raise Down(f"the SaaS answered {status} and something unknown: {error}", pause) from error
        return Receipt(balance=entry.balance, entry=entry.number)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Busy("the SaaS asks for fewer calls", pause)
    refusal = _refusal(response)
    if refusal is None or status in _NOT_THE_GIFT:
        raise Down(f"the SaaS answered {status}: {(refusal or response.text[:200])!r:.300}", pause)
    raise Refused(
        _REASONS.get(refusal.cd, "refused"), printable(f"{status} {refusal.cd} {refusal.msg}"[:LONGEST_REASON])
    )


def _refusal(response: httpx2.Response) -> _Error | None:
    if not response.is_client_error:
        return None
    try:
        return msgspec.json.decode(response.content, type=_Error)
    except msgspec.MsgspecError:
        return None


def retry_after(value: str | None, now: datetime) -> float | None:
    """Read `Retry-After`, seconds or a date (RFC 9110, 10.2.3), as seconds up to `LONGEST_PAUSE`; None for nonsense."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return min(float(value), LONGEST_PAUSE)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:  # "-0000": in UTC, says RFC 5322, from somebody who does not know where they are
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), LONGEST_PAUSE)
