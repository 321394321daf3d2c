"""The adapter before the SaaS: how calls are made, what each answer means, and when none is made."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime

import httpx2
import pytest
from pydantic import ValidationError

from loyalty.adapters.saas import MAX_PAUSE, BreakerOpen, Busy, Down, Saas, read, retry_after
from loyalty.domain import Award, Health, Receipt, Refused, Unavailable
from loyalty.settings import LoyaltySettings
from tidings.breaker import Breaker
from tidings.testing import Clock

NOW = datetime(2026, 3, 14, 18, tzinfo=UTC)
AWARD = Award(order_id="o-1", customer_id="ada", points=12, asked_at=NOW)
POSTED = {"stat": "OK", "txn": {"no": 7, "acctRef": "ada", "pts": 12, "balAft": 151, "ts": "20260314180000"}}
Answer = Callable[[httpx2.Request], httpx2.Response]


def saas(answer: Answer, **chosen: object) -> Saas:
    return Saas(LoyaltySettings.model_validate(chosen), httpx2.MockTransport(answer))


async def test_points_are_posted_under_the_orders_id_in_the_saas_own_words():
    requests: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(200, json=POSTED)

    existing = saas(answer, saas_url="https://saas.example/tenant", saas_key="secret")
    assert await existing.give(AWARD) == Receipt(balance=151, entry=7)
    (request,) = requests
    assert (request.method, str(request.url)) == ("POST", "https://saas.example/tenant/api/v2/TxnPost")
    assert json.loads(request.content) == {"acctRef": "ada", "extRef": "o-1", "pts": 12, "typ": "ERN"}
    sent = [request.headers[name] for name in ("idempotency-key", "content-type", "authorization")]
    assert sent == ["o-1", "application/json", "Bearer secret"]


def error(code: str) -> dict[str, str]:
    return {"stat": "ERR", "cd": code, "msg": "as it says"}


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (404, error("A404"), "accountUnknown"),
        (423, error("A423"), "accountClosed"),
        (400, error("V400"), "refused"),
        (422, error("something new"), "refused"),
    ],
)
def test_its_own_errors_about_the_gift_are_refusals(status: int, content: dict[str, str], reason: str):
    with pytest.raises(Refused, match=f"{reason}: {status} {content['cd']} as it says") as refused:
        read(httpx2.Response(status, json=content), None)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (httpx2.Response(200, text="<html>Welcome</html>"), Down),
        (httpx2.Response(200, json={"stat": "OK"}), Down),
        (httpx2.Response(302, headers={"location": "/login"}), Down),
        (httpx2.Response(401, json=error("K401")), Down),
        (httpx2.Response(403, json=error("K403")), Down),
        (httpx2.Response(404, text="<html>no such page</html>"), Down),
        (httpx2.Response(404, json={"detail": "Not Found"}), Down),
        (httpx2.Response(409, json=error("K409")), Down),
        (httpx2.Response(429, json=error("T429")), Busy),
        (httpx2.Response(500, json=error("A404")), Down),
        (httpx2.Response(503), Down),
    ],
)
def test_anything_else_is_to_be_asked_again(response: httpx2.Response, kind: type[Unavailable]):
    with pytest.raises(Unavailable) as unavailable:
        read(response, 4.0)
    assert (type(unavailable.value), unavailable.value.after) == (kind, 4.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("99999999999", MAX_PAUSE),
        ("Sat, 14 Mar 2026 18:00:30 GMT", 30.0),
        ("Sat, 14 Mar 2026 18:00:30 -0000", 30.0),
        ("Sat, 14 Mar 2026 17:00:00 GMT", 0.0),
        ("Sun, 14 Mar 2032 18:00:00 GMT", MAX_PAUSE),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None):
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("failure", "reported"),
    [
        (httpx2.ConnectError("refused"), "cannot be reached: ConnectError: refused"),
        (httpx2.RemoteProtocolError("broken off"), "cannot be reached: RemoteProtocolError: broken off"),
        (httpx2.ReadTimeout("late"), "cannot be reached: ReadTimeout: late"),
    ],
)
async def test_a_saas_that_cannot_be_reached_is_down(failure: Exception, reported: str):
    def answer(_request: httpx2.Request) -> httpx2.Response:
        raise failure

    with pytest.raises(Down, match=reported) as down:
        await saas(answer).give(AWARD)
    assert down.value.after is None


async def test_a_call_has_a_deadline_all_in_all():
    async def drip(_request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(5)
        raise AssertionError("nobody waits that long")

    existing = Saas(LoyaltySettings(deadline=0.05), httpx2.MockTransport(drip))
    with pytest.raises(Down, match=r"did not answer within 0\.05 s"):
        await existing.give(AWARD)


async def test_a_pause_that_is_asked_for_is_kept_by_every_call():
    answers = [
        httpx2.Response(429, json=error("T429"), headers={"retry-after": "1"}),
        httpx2.Response(200, json=POSTED),
    ]
    existing = saas(lambda _request: answers.pop(0))
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(Busy) as busy:
        await existing.give(AWARD)
    assert busy.value.after == 1.0
    assert existing.health == Health("closed", 0, 0.0)  # who asks for a pause lives
    assert await existing.give(AWARD) == Receipt(151, 7)
    assert loop.time() - began >= 0.95


async def test_calls_keep_to_the_rate():
    existing = saas(lambda _request: httpx2.Response(200, json=POSTED), rate=50, burst=2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(existing.give(AWARD) for _ in range(7)))
    assert loop.time() - began >= 0.09  # two at once, then five, 20 ms apart


async def test_after_consecutive_failures_no_call_is_made_until_a_probe_succeeds():
    calls: list[int] = []
    well = False

    def answer(_request: httpx2.Request) -> httpx2.Response:
        calls.append(1)
        return httpx2.Response(200, json=POSTED) if well else httpx2.Response(500)

    existing, clock = saas(answer, breaker_failures=3, breaker_pause=10), Clock()
    existing._breaker = Breaker(3, 10.0, Down, BreakerOpen, clock)
    for _ in range(3):
        with pytest.raises(Down):
            await existing.give(AWARD)
    for _ in range(10):
        with pytest.raises(BreakerOpen, match="after 3 consecutive failures") as refused:
            await existing.give(AWARD)
        assert 0 < (refused.value.after or 0) <= 15
    assert (len(calls), existing.health.breaker, existing.health.failures) == (3, "open", 3)
    assert existing.health.tries_again_in == 10
    well = True
    clock.advance(10)
    assert existing.health.breaker == "halfOpen"
    assert await existing.give(AWARD) == Receipt(151, 7)
    assert (len(calls), existing.health) == (4, Health("closed", 0, 0.0))


class Failure(Exception):
    pass


class TestBreaker:
    clock: Clock

    @pytest.fixture
    def breaker(self) -> Breaker:
        self.clock = Clock()
        return Breaker(2, 10.0, Failure, BreakerOpen, self.clock)

    def fail(self, breaker: Breaker, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(Failure), breaker():
                raise Failure("as the test asked")

    def test_an_answer_between_failures_starts_the_count_again(self, breaker: Breaker):
        self.fail(breaker)
        with breaker():
            pass
        self.fail(breaker)
        with pytest.raises(KeyError), breaker():  # no failure that counts: an answer
            raise KeyError("refused")
        self.fail(breaker)
        assert (breaker.state, breaker.failures) == ("closed", 1)

    def test_one_probe_is_made_while_other_calls_are_rejected(self, breaker: Breaker):
        self.fail(breaker, 2)
        self.clock.advance(10)
        with breaker():
            for _ in range(5):
                with pytest.raises(BreakerOpen) as refused, breaker():
                    pytest.fail("a second call while half open")
                assert 1.0 <= (refused.value.after or 0) <= 5.0
        assert breaker.state == "closed"

    def test_a_probe_that_fails_opens_it_again_immediately(self, breaker: Breaker):
        self.fail(breaker, 2)
        self.clock.advance(10)
        self.fail(breaker)
        assert (breaker.state, breaker.remaining) == ("open", 10.0)

    def test_a_probe_that_is_cancelled_leaves_the_finding_out_to_the_next(self, breaker: Breaker):
        self.fail(breaker, 2)
        self.clock.advance(10)
        with pytest.raises(asyncio.CancelledError), breaker():
            raise asyncio.CancelledError
        states = [breaker.state]
        with breaker():
            pass
        states.append(breaker.state)
        assert states == ["halfOpen", "closed"]

    @pytest.mark.parametrize("fails", [True, False])
    def test_what_began_before_it_opened_decides_nothing_after_that(self, breaker: Breaker, fails: bool):
        late = breaker()
        late.__enter__()
        self.fail(breaker, 2)
        self.clock.advance(4)
        late.__exit__(*((Failure, Failure("late"), None) if fails else (None, None, None)))
        assert (breaker.state, breaker.remaining) == ("open", 6.0)

    def test_refusing_for_long_costs_no_memory(self, breaker: Breaker):
        self.fail(breaker, 2)
        refusals = []
        for _ in range(3):
            with pytest.raises(BreakerOpen) as refused, breaker():
                pass
            refusals.append(refused.value)
        assert len({id(refusal) for refusal in refusals}) == 3  # one raised anew would grow its traceback each time


@pytest.mark.parametrize("wrong", [{"saas_url": "not an address"}, {"rate": 0}, {"breaker_failures": 0}])
def test_nonsensical_settings_are_reported_immediately(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        LoyaltySettings.model_validate(wrong)
