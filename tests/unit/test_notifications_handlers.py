"""Notifications between its sidecar's twin and a mailer that does as the test says: each e-mail goes out once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import httpx2
import pytest
from tests.support.planned import Planned, fact

from notifications.api import router
from notifications.domain import Email, NotNow, Refused
from notifications.handlers import handlers, queue
from tidings import Service, Settings
from tidings.fastapi import create_app
from tidings.testing import Crash, MemoryBroker, MemorySidecar, MemoryStore, lifespan

NOW = datetime(2026, 3, 14, 18, tzinfo=UTC)


class Scripted:
    """A mailer that raises the given errors in turn, and then accepts everything."""

    def __init__(self) -> None:
        self.raises: list[Exception] = []
        self.sent: list[str] = []
        self.asked = 0
        self.taken: Callable[[], object] = lambda: None
        """Called once, after the next e-mail is taken and before notifications knows."""

    async def send(self, email: Email) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.raises:
            raise self.raises.pop(0)
        self.sent.append(email.email_id)
        self.taken, taken = (lambda: None), self.taken
        taken()


class Notifications(Planned):
    """One run of the service, and what a test says to it and hears from it."""

    def __init__(self, broker: MemoryBroker, store: MemoryStore, mailer: Scripted, patience: timedelta) -> None:
        super().__init__("notifications", broker)
        self.mailer, self.now = mailer, NOW
        self.sidecar = MemorySidecar("notifications", broker, store)
        self.service = Service(
            "notifications",
            [*handlers, *queue(mailer, 4, patience)],
            settings=Settings(tidings_instance="notifications-0", tidings_drain=0.1),
            sidecar=self.sidecar,
            policy=self.policy,
            clock=lambda: self.now,
        )
        self.app = create_app(self.service, [router])
        self.api = httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url="http://notifications")

    def state(self) -> str:
        return f"sent: {self.mailer.sent}"

    async def idle(self) -> None:
        """Wait until the queue is worked off."""
        await self.until(lambda: not self.service.outbox.depth)

    async def look(self, email_id: str = "o-1-orderConfirmed") -> dict[str, Any]:
        answer = await self.api.get(f"/emails/{email_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


Start = Callable[..., Any]


@pytest.fixture(params=[True, False], ids=["atomic store", "store like Redis"])
async def start(request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    """Start the service: again on what it left, after `await notifications.stop()`."""
    broker, store, mailer = MemoryBroker(), MemoryStore(atomic=request.param), Scripted()
    async with AsyncExitStack() as stack:

        async def run(patience: timedelta = timedelta(days=1)) -> Notifications:
            running = Notifications(broker, store, mailer, patience)
            life = AsyncExitStack()
            await life.enter_async_context(running.api)
            await life.enter_async_context(lifespan(running.app))
            running.stop = life.aclose  # type: ignore[attr-defined]
            stack.push_async_callback(life.aclose)
            running.attach(running.app)
            return running

        yield run


def asked(order: str = "o-1", template: str = "orderConfirmed", **changes: Any) -> bytes:
    """Return the command as orders sends it."""
    output = {"emailId": f"{order}-{template}", "template": template, "orderId": order, "customerId": "c-1"}
    output["to"] = "ada@example.org"
    return fact("notifications.sendEmail", 1, subject="emailId", **{**output, "parameters": {"name": "Ada"}, **changes})


async def test_an_email_goes_out_a_single_time_despite_repeated_requests(start: Start):
    running = await start()
    same = asked()
    await running.receive(same, same, asked(), asked(template="orderCompleted"))
    await running.idle()
    assert sorted(running.mailer.sent) == ["o-1-orderCompleted", "o-1-orderConfirmed"]
    published = sorted(running.published_data("emailSent"), key=lambda item: item["template"])
    assert [(item["emailId"], item["orderId"], item["template"]) for item in published] == [
        ("o-1-orderCompleted", "o-1", "orderCompleted"),
        ("o-1-orderConfirmed", "o-1", "orderConfirmed"),
    ]
    assert {event["correlationid"] for event in running.broker.events("notifications.emailSent.v1")} == {
        "correlation of o-1"
    }
    seen = await running.look()
    assert (seen["status"], seen["orderId"], seen["reason"]) == ("sent", "o-1", None)
    assert "to" not in seen


async def test_an_email_that_the_server_does_not_take_now_is_tried_again(start: Start):
    running = await start()
    running.mailer.raises = [NotNow("451 try again")]
    await running.receive(asked())
    await running.until(lambda: running.mailer.asked == 1)
    assert (await running.look())["status"] == "waiting"
    await running.idle()
    assert (running.mailer.asked, len(running.published_data("emailSent")), running.published_data("emailRefused")) == (
        2,
        1,
        [],
    )


async def test_a_refusal_is_final_and_published(start: Start):
    running = await start()
    running.mailer.raises = [Refused("550 no such mailbox")]
    await running.receive(asked(), asked("o-2"))
    await running.idle()
    (published,) = running.published_data("emailRefused")
    assert (published["reason"], published["template"]) == ("550 no such mailbox", "orderConfirmed")
    assert len(running.published_data("emailSent")) == 1
    seen = await running.look(published["emailId"])
    assert (seen["status"], seen["reason"]) == ("refused", "550 no such mailbox")


@pytest.mark.parametrize("address", ["", "nobody", "ada@example.org\r\nBcc: eve@example.org"])
async def test_without_an_address_it_is_refused_immediately(start: Start, address: str):
    running = await start()
    await running.receive(asked(to=address))
    await running.idle()
    assert (running.mailer.asked, len(running.published_data("emailRefused"))) == (0, 1)
    assert "no valid e-mail address" in (await running.look())["reason"]


async def test_an_overdue_email_is_abandoned(start: Start):
    running = await start(timedelta(hours=1))
    running.mailer.raises = [NotNow("451 try again"), NotNow("451 still not")]
    await running.receive(asked())
    await running.until(lambda: running.mailer.asked == 1)
    running.now = NOW + timedelta(hours=1)
    await running.idle()
    (published,) = running.published_data("emailRefused")
    assert published["reason"] == "given up after 1:00:00: 451 still not"


async def test_what_waits_outlives_the_process(start: Start):
    first = await start()
    first.mailer.raises = [NotNow("451 try again")] * 5
    await first.receive(*(asked(f"o-{number}") for number in range(5)))
    await first.until(lambda: first.mailer.asked >= 5)
    await first.stop()
    first.mailer.raises = []
    second = await start()
    await second.until(lambda: len(second.published_data("emailSent")) == 5)
    assert sorted(second.mailer.sent) == [f"o-{number}-orderConfirmed" for number in range(5)]


@pytest.mark.parametrize(("when", "times"), [("before", 2), ("after", 1)])
async def test_a_commit_that_got_lost_publishes_a_single_time(
    start: Start, when: Literal["before", "after"], times: int
):
    """Handed over again only where nothing was written: by its Message-ID it is known to be the same."""
    running = await start()
    running.mailer.taken = lambda: running.sidecar.fail("transact", when=when)
    await running.receive(asked())
    await running.idle()
    assert (running.mailer.sent, len(running.published_data("emailSent"))) == (["o-1-orderConfirmed"] * times, 1)


async def test_a_death_after_handing_over_publishes_a_single_time(start: Start):
    first = await start()

    def die() -> None:
        first.sidecar.fail("transact", error=Crash())
        first.sidecar.fail(times=1_000_000)  # a dead process reads and writes nothing more

    first.mailer.taken = die
    await first.receive(asked())
    await first.until(lambda: first.mailer.sent)
    await first.stop()
    assert first.published_data("emailSent") == []
    second = await start()
    await second.until(lambda: second.published_data("emailSent"))
    await second.idle()
    assert (second.mailer.sent, len(second.published_data("emailSent"))) == (["o-1-orderConfirmed"] * 2, 1)


@pytest.mark.parametrize("changes", [{"template": "orderEaten"}, {"emailId": ""}, {"parameters": {"name": 7}}])
async def test_a_command_that_makes_no_sense_is_a_dead_letter(start: Start, changes: dict[str, Any]):
    running = await start()
    await running.receive(asked(**changes))
    await running.idle()
    (letter,) = running.broker.events("deadletter.notifications")
    assert (letter["type"], running.mailer.asked) == ("notifications.sendEmail", 0)


async def test_an_unknown_email_is_404(start: Start):
    running = await start()
    answer = await running.api.get("/emails/unknown")
    assert (answer.status_code, "was never requested" in answer.json()["detail"]) == (404, True)
