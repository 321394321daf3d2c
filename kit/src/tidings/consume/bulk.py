"""Bulk deliveries: the sidecar delivers several events in one request; the response has a status for each.

With `rawPayload`, an entry holds the published bytes in base64. Without it, as for a Subscription with routing rules,
the sidecar has decoded and re-encoded each event: integers beyond 2**53 have lost digits, and fields are in
alphabetical order.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Literal

import msgspec

from tidings.background import contained
from tidings.messages.envelope import UNREADABLE, read_deep


class Entry(msgspec.Struct, frozen=True, rename="camel"):
    """An event of a bulk delivery, and the entry id that its status in the response must carry."""

    entry_id: str
    event: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def body(self) -> bytes:
        """The event's bytes.

        Entries that are neither an object nor valid base64 are returned unchanged, as malformed.
        """
        event = bytes(self.event)
        if not event.startswith(b'"'):
            return event
        try:
            return msgspec.json.decode(event, type=bytes)
        except msgspec.MsgspecError:
            return event


class _Bulk(msgspec.Struct, frozen=True):
    """daprd's envelope of a bulk delivery. It resembles a CloudEvent, but is not one."""

    type: Literal["com.dapr.event.sent.bulk"]
    entries: list[Entry]
    specversion: str = ""


Delivery = Callable[[Callable[[], Awaitable[None]]], Awaitable[bytes | None]]
"""Handles one event.

It receives a function that acknowledges the event early, and returns the response, or None if it did.
"""
_in_flight: set[asyncio.Task[None]] = set()  # the event loop keeps only weak references to tasks
_SUCCESS = b'{"status":"SUCCESS"}'
_decoder = msgspec.json.Decoder(_Bulk)
_TYPE = b'"com.dapr.event.sent.bulk"'


def entries(body: bytes) -> list[Entry] | None:
    """Return the entries of a bulk delivery, or None for a single event."""
    if _TYPE not in body:
        return None
    try:
        bulk = read_deep(_decoder, body)
    except UNREADABLE:
        return None
    return None if bulk.specversion else bulk.entries or None  # a CloudEvent may use the same type


async def gather(deliveries: Iterable[Delivery]) -> list[bytes]:
    """Handle the deliveries of one request concurrently; return their responses once all have one.

    A delivery can acknowledge its event early; it then continues after the request has been answered.
    """
    loop = asyncio.get_running_loop()
    answers: list[asyncio.Future[bytes]] = []
    tasks: list[asyncio.Task[None]] = []
    for delivery in deliveries:
        answers.append(loop.create_future())
        tasks.append(loop.create_task(_deliver(delivery, answers[-1])))
        _in_flight.add(tasks[-1])
        tasks[-1].add_done_callback(_in_flight.discard)
    try:
        return await asyncio.gather(*answers)
    except asyncio.CancelledError:  # acknowledged deliveries continue
        pairs = zip(tasks, answers, strict=True)
        unanswered = [task for task, response in pairs if response.cancelled() or not response.done()]
        for task in unanswered:
            task.cancel()
        await asyncio.gather(*unanswered, return_exceptions=True)
        raise


async def _deliver(delivery: Delivery, response: asyncio.Future[bytes]) -> None:
    async def acknowledge() -> None:
        if not response.done():
            response.set_result(_SUCCESS)

    try:
        result = await contained(partial(delivery, acknowledge))
    except BaseException as error:  # noqa: BLE001 - passed on to the request, which is another task
        if isinstance(error, asyncio.CancelledError):
            response.cancel()
        elif not response.done():
            response.set_exception(error)
    else:
        if result is not None and not response.done():
            response.set_result(result)


def answer(entries: Sequence[Entry], answers: Iterable[bytes]) -> bytes:
    """Build the response, with a status for each event. daprd would redeliver an event without one."""
    statuses = [
        {"entryId": entry.entry_id, **msgspec.json.decode(single)}
        for entry, single in zip(entries, answers, strict=True)
    ]
    return msgspec.json.encode({"statuses": statuses})
