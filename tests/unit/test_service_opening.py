"""A service's opening runs once the sidecar answers, again after failures, and readiness waits for it."""

import asyncio

import pytest

from tidings import Event, Service, StateContext, event
from tidings.observability import logs
from tidings.testing import MemorySidecar


@event("shop.shopOpened", subject="shop")
class ShopOpened(Event):
    shop: str


class Shop(Event):
    opened: int = 0


async def opening(context: StateContext) -> None:
    shop = await context.load(Shop, "main")
    if shop is None:
        context.save("main", Shop(opened=1))
        context.publish(ShopOpened(shop="main"))


async def opened(service: Service) -> None:
    async with asyncio.timeout(60):
        while not await service.ready():  # noqa: ASYNC110 - readiness is asked for, as by a probe
            await asyncio.sleep(0.01)


async def test_opening_is_repeated_until_it_is_committed_and_does_nothing_the_next_time():
    first = MemorySidecar("shop")
    service = Service("shop", sidecar=first, startup_hook=opening)
    first.fail("transact", skip=1, times=3)
    await service.start()
    assert not await service.ready()
    await opened(service)
    await service.stop()

    again = Service("shop", sidecar=MemorySidecar("shop", first.broker, first.store), startup_hook=opening)
    await again.start()
    await opened(again)
    await again.stop()
    assert [item["subject"] for item in first.broker.events("shop.shopOpened.v1")] == ["main"]


async def test_an_opening_that_fails_for_good_is_reported_and_the_service_never_gets_ready(
    capsys: pytest.CaptureFixture[str],
):
    async def broken(_context: StateContext) -> None:
        raise ValueError("no menu in menu.yaml")

    logs.configure("shop", "json", "INFO")  # other tests may have, and the lines then go to another place
    service = Service("shop", sidecar=MemorySidecar("shop"), startup_hook=broken)
    await service.start()
    assert service._hook_task
    await asyncio.wait([service._hook_task])
    assert not await service.ready()
    assert "no menu in menu.yaml" in capsys.readouterr().err
    await service.stop()


async def test_an_outbox_that_cannot_start_is_reported_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async def broken(_deliver: object) -> None:
        raise TypeError("the database answers in bytes")

    logs.configure("shop", "json", "INFO")
    service = Service("shop", sidecar=MemorySidecar("shop"))
    monkeypatch.setattr(service.outbox, "start", broken)
    await service.start()
    assert service._starting
    await asyncio.wait([service._starting])
    assert not await service.ready()
    assert "the database answers in bytes" in capsys.readouterr().err
    await service.stop()
