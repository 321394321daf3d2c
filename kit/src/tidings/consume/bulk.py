"""Bulk deliveries: the sidecar delivers one or several events in one request, and the answer names each of them.

With `rawPayload` an entry holds the published bytes in base64. Without it, which is how a Subscription with routing
rules is delivered, the sidecar has decoded and re-encoded each event: whole numbers beyond 2**53 have lost digits by
then, and fields are in alphabetical order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Literal

import msgspec

from tidings.background import contained
from tidings.messages.envelope import UNREADABLE, read_deep


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """One event of a delivery, under the name that its answer must carry."""

    entry_id: str
    event: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def body(self) -> bytes:
        """The event's bytes. An entry that is neither an object nor valid base64 is returned as it is: malformed."""
        event = bytes(self.event)
        if not event.startswith(b'"'):
            return event
        try:
            return msgspec.json.decode(event, type=bytes)
        except msgspec.MsgspecError:
            return event


class _Bulk(msgspec.Struct, frozen=True):
    """daprd's envelope of many events, which is no CloudEvent."""

    type: Literal["com.dapr.event.sent.bulk"]
    entries: list[Entry]
    specversion: str = ""


Delivery = Callable[[Callable[[], Awaitable[None]]], Awaitable[bytes | None]]
"""Given what acknowledges it early, it answers what the sidecar is told; None where it has been acknowledged."""
_under_way: set[asyncio.Task[None]] = set()  # the event loop itself keeps no task alive
_SUCCESS = b'{"status":"SUCCESS"}'
_decoder = msgspec.json.Decoder(_Bulk)
_TYPE = b'"com.dapr.event.sent.bulk"'


def entries(body: bytes) -> list[Entry] | None:
    """The events of a delivery of many; None where it is something else."""
    if _TYPE not in body:
        return None
    try:
        found = read_deep(_decoder, body)
    except UNREADABLE:
        return None
    return None if found.specversion else found.entries or None


async def gather(deliveries: Iterable[Delivery]) -> list[bytes]:
    """Run the deliveries of one request at the same time; return their answers as soon as each has one.

    A delivery is given a function that acknowledges it. One that calls it goes on after the request is answered.
    """
    loop = asyncio.get_running_loop()
    answers: list[asyncio.Future[bytes]] = []
    tasks: list[asyncio.Task[None]] = []
    for delivery in deliveries:
        answers.append(loop.create_future())
        tasks.append(loop.create_task(_deliver(delivery, answers[-1])))
        _under_way.add(tasks[-1])
        tasks[-1].add_done_callback(_under_way.discard)
    try:
        return await asyncio.gather(*answers)
    except asyncio.CancelledError:  # what has been acknowledged goes on
        unanswered = [task for task, given in zip(tasks, answers, strict=True) if given.cancelled() or not given.done()]
        for task in unanswered:
            task.cancel()
        await asyncio.gather(*unanswered, return_exceptions=True)
        raise


async def _deliver(delivery: Delivery, given: asyncio.Future[bytes]) -> None:
    async def acknowledge() -> None:
        if not given.done():
            given.set_result(_SUCCESS)

    try:
        found = await contained(partial(delivery, acknowledge))
    except BaseException as error:  # noqa: BLE001 - it fails the request, which is another task
        if isinstance(error, asyncio.CancelledError):
            given.cancel()
        elif not given.done():
            given.set_exception(error)
    else:
        if found is not None and not given.done():
            given.set_result(found)


def answer(found: Sequence[Entry], answers: Iterable[bytes]) -> bytes:
    """Say of each event what became of it: an event without an answer would come again."""
    statuses = [
        {"entryId": entry.entry_id, **msgspec.json.decode(each)} for entry, each in zip(found, answers, strict=True)
    ]
    return msgspec.json.encode({"statuses": statuses})
