"""Any exception while an event is handled leads to one outcome, of this event only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tidings import Context, Event, Handlers, Service, StateContext, event
from tidings.consume.policy import Policy, RetryPolicy, SubscriptionPolicy
from tidings.errors import (
    DefinitionError,
    EventTooLarge,
    ProcessEnd,
    PublishRefused,
    Rejected,
    SidecarUnavailable,
    StateConflict,
    StateRefused,
    TopicMissing,
)
from tidings.observability import metrics, tracing
from tidings.outcomes import DeadLetter, Postponed, Retry
from tidings.testing import MemorySidecar

SUCCESS, RETRY = b'{"status":"SUCCESS"}', b'{"status":"RETRY"}'
PATH = "/events/shop.itemSold.v1"
UNTYPED: Any = None


@event("shop.itemSold")
class Sold(Event):
    item: str


class Shelf(Event):
    count: int = 0


def body(identity: str = "e-1", **attributes: Any) -> bytes:
    standard = {"id": identity, "source": "test", "type": "shop.itemSold", "specversion": "1.0", "version": "1"}
    return json.dumps({**standard, "data": {"item": "pie"}, **attributes}).encode()


class Shop:
    """A service whose handler does what a test says, tried twice at most."""

    def __init__(self, do: Callable[[Sold, Any], Any], **options: Any) -> None:
        self.calls = 0
        self.do = do
        self.sidecar = MemorySidecar("shop")
        handlers = Handlers()
        handlers.on(Sold)(self.handle)
        policy = SubscriptionPolicy("sales", "shop.itemSold", PATH, retry=RetryPolicy(max_retries=1), **options)
        self.service = Service("shop", handlers, sidecar=self.sidecar, policy=Policy("shop", (policy,)))

    async def handle(self, sold: Sold, context: StateContext) -> Any:
        self.calls += 1
        result = self.do(sold, context)
        return await result if asyncio.iscoroutine(result) else result

    async def deliver(self, content: bytes | None = None, path: str = PATH) -> bytes:
        return await self.service.ingress.deliver(path, content or body())

    @property
    def reasons(self) -> list[str]:
        return [letter["failurereason"] for letter in self.sidecar.broker.events("deadletter.shop")]


def raises(error: BaseException) -> Callable[[Sold, Any], None]:
    def do(_sold: Sold, _context: Any) -> None:
        raise error

    return do


class Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def nested(levels: int) -> BaseException:
    error: BaseException = ValueError("core")
    for _ in range(levels):
        error = BaseExceptionGroup("more", [error])
    return error


def chained(links: int) -> Exception:
    error: Exception = ValueError("first")
    for number in range(links):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    return error


ANY = [
    ValueError("odd"), RecursionError("deep"), MemoryError(), SystemExit(3), SystemExit("bye"), GeneratorExit(),
    KeyboardInterrupt(), asyncio.CancelledError("by the handler"), StopIteration(), StopAsyncIteration(),
    ExceptionGroup("several", [ValueError("a"), KeyError("b")]), BaseExceptionGroup("base", [SystemExit(1)]),
    nested(3_000), chained(3_000), Unreadable(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    BaseException("base"),
    OSError(28, "no space"), AssertionError(), TimeoutError(), ValueError("x" * 5_000_000),
    ValueError("\x1b[2J\0\ud800"),
    DefinitionError("bug"), TopicMissing("no stream"), Exception(object()),
]  # fmt: skip


@pytest.mark.parametrize("error", ANY, ids=lambda error: type(error).__name__)
async def test_anything_a_handler_raises_is_an_attempt_and_then_a_dead_letter(error: BaseException) -> None:
    shop = Shop(raises(error))
    assert [await shop.deliver(), await shop.deliver()] == [RETRY, SUCCESS]
    [reason] = shop.reasons
    assert type(error).__name__ in reason or "raised Stop" in reason
    assert len(reason) <= 2_000
    assert reason.isprintable()
    shop.do = lambda _sold, _context: None
    assert await shop.deliver(body("e-2")) == SUCCESS
    assert shop.calls == 3


PERMANENT = [Rejected("no"), EventTooLarge("large"), PublishRefused("forbidden"), StateRefused("no such key")]


@pytest.mark.parametrize("error", PERMANENT, ids=lambda error: type(error).__name__)
async def test_what_is_refused_for_good_is_a_dead_letter_immediately(error: Exception) -> None:
    shop = Shop(raises(error))
    assert await shop.deliver() == SUCCESS
    assert shop.reasons == [str(error)]


@pytest.mark.parametrize(
    "error", [SidecarUnavailable("away"), StateConflict("other")], ids=lambda item: type(item).__name__
)
async def test_only_unavailable_and_conflict_postpone(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.consume.runner._MAX_TRIES", 1)
    shop = Shop(raises(error))
    assert {await shop.deliver() for _ in range(5)} == {RETRY}
    assert shop.reasons == []


@pytest.mark.parametrize(
    "result", [Postponed("mine"), Retry("\0" * 9), Retry(UNTYPED), 17, ("body", 500), object(), b"", Exception]
)
async def test_anything_a_handler_returns_ends_within_its_attempts(result: object) -> None:
    shop = Shop(lambda _sold, _context: result)
    assert [await shop.deliver(), await shop.deliver()] == [RETRY, SUCCESS]
    assert len(shop.reasons) == 1


@pytest.mark.parametrize("reason", ["a\0b\x1b[2J\u202e\nc", "x" * 100_000, "\ud800", 7, None, Unreadable()])
async def test_the_reason_of_a_dead_letter_is_one_bounded_line(reason: Any) -> None:
    shop = Shop(lambda _sold, _context: DeadLetter(reason))
    assert await shop.deliver() == SUCCESS
    [published] = shop.reasons
    assert len(published) <= 2_000
    assert published.isprintable()


@pytest.mark.parametrize("result", [5, Retry, Postponed("later"), {"status": "SUCCESS"}])
async def test_nothing_is_committed_if_a_handler_returns_no_outcome(result: object) -> None:
    async def handle(_sold: Sold, context: StateContext) -> Any:
        context.save("pie", await context.load(Shelf, "pie") or Shelf(count=1))
        return result

    shop = Shop(handle)
    assert [await shop.deliver(), await shop.deliver()] == [RETRY, SUCCESS]
    assert len(shop.reasons) == 1
    assert "pie" not in str(shop.sidecar.store.keys())


async def test_a_cancellation_from_outside_passes_through() -> None:
    shop = Shop(lambda _sold, _context: asyncio.sleep(60))
    task = asyncio.create_task(shop.deliver())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shop.service.ingress.in_flight == 0


async def test_a_handler_that_cancels_its_own_task_is_a_failed_attempt_after_the_first() -> None:
    """The first cancellation might come from outside, such as at a shutdown, so the event is delivered again."""

    async def cancel_itself() -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()
        await asyncio.sleep(60)

    shop = Shop(lambda _sold, _context: cancel_itself())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(shop.deliver())
    assert [await shop.deliver(), await shop.deliver()] == [RETRY, SUCCESS]
    assert shop.reasons == ["CancelledError"]
    again = asyncio.create_task(shop.deliver())
    await asyncio.sleep(0)
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again


async def test_an_event_whose_delivery_was_cancelled_is_handled_afterwards() -> None:
    shop = Shop(lambda _sold, _context: asyncio.sleep(60 if shop.calls < 3 else 0))
    for _ in range(2):
        task = asyncio.create_task(shop.deliver())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await shop.deliver() == SUCCESS
    assert shop.service._runner._cancelled == set()


async def test_the_end_of_the_process_passes_through() -> None:
    with pytest.raises(ProcessEnd):
        await Shop(raises(ProcessEnd())).deliver()


async def test_a_handler_that_swallows_its_cancellation_has_an_outcome_and_blocks_no_one() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise SystemExit(1) from None

    shop = Shop(lambda _sold, _context: stubborn(), timeout=0.01)
    assert [await shop.deliver(), await shop.deliver()] == [RETRY, SUCCESS]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("get", ValueError), ("get", SystemExit), ("get", asyncio.CancelledError), ("get", RecursionError),
        ("transact", ValueError), ("transact", RecursionError), ("transact", OSError),
    ],
)  # fmt: skip
async def test_anything_the_state_store_raises_is_an_attempt(call: Any, error: type[BaseException]) -> None:
    done = asyncio.Event()

    async def work(context: StateContext) -> None:
        shelf = await context.load(Shelf, "a") or Shelf()
        context.save("a", Shelf(count=shelf.count + 1))
        context.after_commit(done.set)

    shop = Shop(lambda _sold, context: work(context))
    await shop.service.start()
    await asyncio.wait_for(shop.service._starting, 60)  # type: ignore[arg-type]
    shop.sidecar.fail(call, error=error())
    for _ in range(3):
        if await shop.deliver() == SUCCESS:  # done now, or set aside to be done
            break
    else:
        raise AssertionError("no outcome after three deliveries")
    await asyncio.wait_for(done.wait(), 60)
    assert shop.reasons == []
    await shop.service.stop()


async def test_anything_the_ordering_key_raises_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(lambda _sold, _context: None, max_concurrency=1)
    monkeypatch.setattr("tidings.consume.ingress._ordering_key", lambda *_: 1 / 0)
    assert [await shop.deliver(), await shop.deliver()] == [RETRY, SUCCESS]
    assert shop.reasons == ["ZeroDivisionError: division by zero"]


@pytest.mark.parametrize("count", ["handled", "aged", "dead_lettered", "ignored"])
async def test_metrics_that_fail_change_no_outcome(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, count, lambda *_: 1 / 0)
    shop = Shop(lambda sold, _context: DeadLetter("bad") if sold.item == "bad" else None)
    assert await shop.deliver() == SUCCESS
    assert await shop.deliver(body("e-2", data={"item": "bad"})) == SUCCESS
    assert await shop.deliver(body("e-3"), "/events/ignored") == SUCCESS
    assert (shop.calls, shop.reasons) == (2, ["bad"])


@pytest.mark.parametrize("when", ["before", "after"])
async def test_tracing_that_fails_changes_no_outcome(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def start_as_current_span(self, *_: object, **__: object) -> Any:
            raise ValueError("no tracer")

    class BrokenEnd:
        def set_attribute(self, *_: object) -> None:
            raise ValueError("no span")

    monkeypatch.setattr(tracing._state, "on", True)
    if when == "before":
        monkeypatch.setattr(tracing, "_tracer", Broken())
    else:
        monkeypatch.setattr(tracing, "_end", lambda *_: BrokenEnd().set_attribute())
    shop = Shop(lambda _sold, _context: None)
    assert [await shop.deliver(), await shop.deliver(body("e-2"))] == [SUCCESS, SUCCESS]
    assert (shop.calls, shop.reasons) == (2, [])


async def test_an_error_after_the_commit_does_not_undo_it() -> None:
    async def publish(context: Context) -> None:
        context.after_commit(lambda: 1 / 0)

    shop = Shop(lambda _sold, context: publish(context))
    assert await shop.deliver() == SUCCESS
    assert shop.reasons == []


@pytest.mark.parametrize("key", ["a||b", "/", "\0", "x" * 9_000, "\ud800", " ", "../..", "a/b", "é" * 300, "%7C"])
async def test_any_text_is_a_key_and_any_id_is_remembered(key: str) -> None:
    async def count(context: StateContext) -> None:
        shelf = await context.load(Shelf, key) or Shelf()
        context.save(key, Shelf(count=shelf.count + 1))

    shop = Shop(lambda _sold, context: count(context))
    await shop.service.start()
    for _ in range(2):
        assert await shop.deliver(body(f"{key} id".replace("\0", "").replace("\ud800", ""))) == SUCCESS
    assert (shop.calls, shop.reasons) == (2, [])
    [stored] = [item for item in list(shop.sidecar.store.keys()) if item.startswith("shop||shelf/")]
    document = json.loads(shop.sidecar.store.read(stored).value)  # type: ignore[union-attr]
    assert document["value"] == {"count": 1}
    await shop.service.stop()
