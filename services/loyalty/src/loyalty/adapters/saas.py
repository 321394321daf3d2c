"""HTTP adapter for the third-party SaaS that keeps the points; translates its terms and failures into loyalty's."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2
import msgspec

from loyalty.domain import Award, Health, Reason, Receipt, Refused, Unavailable
from loyalty.settings import LoyaltySettings
from tidings import Service
from tidings.breaker import Breaker
from tidings.consume.limits import TokenBucket
from tidings.consume.policy import RateLimit
from tidings.messages.envelope import UNREADABLE
from tidings.terminal import printable
from tidings.web.answers import PLAIN, AnswerTooLarge, read_bounded

MAX_PAUSE = 3600.0
"""Seconds; a longer `Retry-After` is cut to this."""

MAX_RESPONSE = 64 * 1024
"""Bytes; a usual response has about 200."""
MAX_REASON = 300
"""Characters kept of an error message from the SaaS."""

_REASONS: Mapping[str, Reason] = {"A404": "accountUnknown", "A423": "accountClosed"}
# Client errors that do not concern the award itself, but the caller (401, 403, 407) or the timing (408, 409, 425).
_NOT_THE_AWARD = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_EARLY,
}


class Down(Unavailable):
    """The SaaS failed or could not be reached. Counted by the circuit breaker."""


class Busy(Unavailable):
    """The SaaS asked for a pause. Not counted by the circuit breaker."""


class BreakerOpen(Unavailable):
    """The circuit breaker is open; no call was made."""


class _Posting(msgspec.Struct, frozen=True, rename={"account": "acctRef", "reference": "extRef", "points": "pts"}):
    """Request body of `POST /api/v2/TxnPost`."""

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
    """Error body of the SaaS. Any other body comes from elsewhere, such as a proxy or a wrong address."""

    cd: str
    msg: str = ""


class Saas:
    """`Provider` that gives points through the SaaS.

    Args:
        settings: Address and limits.
        transport: Replacement for the network, for tests.

    """

    def __init__(self, settings: LoyaltySettings, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._deadline = settings.deadline
        self._bucket = TokenBucket(RateLimit(settings.rate, burst=settings.burst))
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_pause, Down, BreakerOpen)
        key = settings.saas_key
        self._client = httpx2.AsyncClient(
            base_url=str(settings.saas_url),
            headers=PLAIN | ({"authorization": f"Bearer {key.get_secret_value()}"} if key else {}),
            timeout=settings.deadline,
            transport=transport,
        )

    @asynccontextmanager
    async def opened(self, _service: Service) -> AsyncIterator[None]:
        """Keep the HTTP client open while the service runs."""
        async with self._client:
            yield

    @property
    def health(self) -> Health:
        return Health(self._breaker.state, self._breaker.failures, round(self._breaker.remaining, 3))

    async def give(self, award: Award) -> Receipt:
        """Give the points. The order id is the `Idempotency-Key`, which the SaaS enters once.

        Raises:
            Unavailable: The SaaS failed, did not respond or asked for a pause, or the circuit breaker is open.
            Refused: The SaaS refuses the points for good.

        """
        with self._breaker():
            await self._bucket.acquire()
            response = await self._post(award)
            pause = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
            if pause is not None:
                self._bucket.pause(pause)
            return read(response, pause)

    async def _post(self, award: Award) -> httpx2.Response:
        """Post the award and read the response, up to `MAX_RESPONSE`."""
        body = msgspec.json.encode(_Posting(award.customer_id, award.order_id, award.points))
        headers = {"idempotency-key": award.order_id, "content-type": "application/json"}
        try:
            async with asyncio.timeout(self._deadline):
                request = self._client.build_request("POST", "api/v2/TxnPost", content=body, headers=headers)
                response = await self._client.send(request, stream=True)
                content = await read_bounded(response, MAX_RESPONSE)
                return httpx2.Response(response.status_code, headers=response.headers, content=content)
        except AnswerTooLarge as error:
            raise Down(f"the SaaS: {error}") from error
        except TimeoutError as error:
            raise Down(f"the SaaS did not answer within {self._deadline:g} s") from error
        except httpx2.HTTPError as error:
            raise Down(f"the SaaS cannot be reached: {type(error).__name__}: {error}") from error


def read(response: httpx2.Response, pause: float | None) -> Receipt:
    """Return the receipt in a response of the SaaS.

    Only an error in the SaaS's own format is a refusal. Any other failure may come from a proxy or a wrong address,
    and no member must lose points because of that.

    Args:
        response: The response, with its content read.
        pause: Pause in seconds that the response asked for.

    Raises:
        Unavailable: The outcome is unknown; retry.
        Refused: The points are refused for good.

    """
    status = response.status_code
    if response.is_success:
        try:
            entry = msgspec.json.decode(response.content, type=_Posted).txn
        except UNREADABLE as error:
            raise Down(f"the SaaS answered {status} with an unknown body: {error}", pause) from error
        return Receipt(balance=entry.balance, entry=entry.number)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Busy("the SaaS asks for fewer calls", pause)
    refusal = _refusal(response)
    if refusal is None or status in _NOT_THE_AWARD:
        raise Down(f"the SaaS answered {status}: {(refusal or response.text[:200])!r:.300}", pause)
    raise Refused(_REASONS.get(refusal.cd, "refused"), printable(f"{status} {refusal.cd} {refusal.msg}"[:MAX_REASON]))


def _refusal(response: httpx2.Response) -> _Error | None:
    if not response.is_client_error:
        return None
    try:
        return msgspec.json.decode(response.content, type=_Error)
    except UNREADABLE:
        return None


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return `Retry-After` in seconds, at most `MAX_PAUSE`; None if it is invalid.

    The header holds seconds or a date (RFC 9110, 10.2.3).
    """
    if value is None:
        return None
    if value.strip().isdecimal():
        return min(float(value), MAX_PAUSE)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:  # the zone "-0000": UTC, from a sender with unknown local time zone (RFC 5322, 3.3)
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), MAX_PAUSE)
