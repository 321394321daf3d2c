"""The log strategy, the default: documents and messages in one state transaction.

Works on every Dapr state store and every broker. `tidings.outbox.lanes` describes the guarantees.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

import msgspec

from tidings.context import AlreadyHandled, Context
from tidings.dapr import Item, Operation, Sidecar, Upsert
from tidings.errors import DefinitionError, NotFound, OneDocument, StateConflict
from tidings.messages import personal
from tidings.messages.delivery import DeliveryContext
from tidings.messages.envelope import new_id
from tidings.messages.events import message_type
from tidings.outbox.documents import (
    MARKER_DAYS,
    Document,
    Pointer,
    Scheduled,
    Slot,
    document_key,
    read_document,
    remembered,
    write,
)
from tidings.outbox.lanes import Lanes

T = TypeVar("T")


@dataclass(slots=True)
class _Loaded:
    document: Document
    item: Item | None


@dataclass(slots=True)
class DocumentContext(Context):
    """A unit of work on one document of the state store, independent of the publishing strategy."""

    _sidecar: Sidecar
    _loaded: dict[str, _Loaded] = field(default_factory=dict, init=False)
    _saved: tuple[str, object] | None = field(default=None, init=False)
    _keep: int | None = field(default=None, init=False)

    async def prefetch(self, *aggregates: tuple[type[Any], str]) -> None:
        """Read several aggregates in one call to the store; `load` then returns them without another call.

        Args:
            aggregates: Model and key of each.

        Raises:
            SidecarUnavailable: The store did not answer.

        """
        names = [document_key(model, key) for model, key in aggregates]
        missing = [name for name in dict.fromkeys(names) if name not in self._loaded]
        items = await self._sidecar.get_many(missing)
        for name in missing:
            self._loaded[name] = _Loaded(read_document(items.get(name)), items.get(name))

    async def load(self, model: type[T], key: str) -> T | None:
        """Return an aggregate, or None if it does not exist.

        Raises:
            SidecarUnavailable: The store did not answer.

        """
        name = document_key(model, key)
        loaded = self._loaded.get(name)
        if loaded is None:
            item = await self._sidecar.get(name)
            loaded = self._loaded[name] = _Loaded(read_document(item), item)
        if not loaded.document.handled.keys().isdisjoint(self.delivery.keys):
            raise AlreadyHandled
        if loaded.item is None:
            return None
        return msgspec.json.decode(personal.decrypt_document(model, loaded.document.value, name), type=model)

    async def require(self, model: type[T], key: str, message: str) -> T:
        """Return an aggregate that must exist.

        Raises:
            NotFound: It does not exist, for the reason that `message` states.
            SidecarUnavailable: The store did not answer.

        """
        found = await self.load(model, key)
        if found is None:
            raise NotFound(message)
        return found

    def save(self, key: str, value: object, *, ttl: timedelta | None = None) -> None:
        """Write a loaded aggregate when the handler returns; one per unit of work.

        If another unit of work has written the aggregate since it was loaded, the handler runs again. With `ttl`, the
        store deletes the document that long after its last write, including its inbox and unpublished messages: this is
        meant for read models that can be rebuilt.

        Raises:
            OneDocument: Another aggregate is saved already, see docs/decisions/0003.
            DefinitionError: The aggregate was not loaded in this unit of work.

        """
        name = document_key(type(value), key)
        if name not in self._loaded:
            raise DefinitionError(f"load {name} before saving it, so that concurrent changes are detected")
        if self._saved is not None and self._saved[0] != name:
            raise OneDocument(
                f"{self._saved[0]} is saved already, {name} cannot be: publish or schedule a message for the second"
            )
        self._saved = (name, value)
        self._keep = None if ttl is None else max(int(ttl.total_seconds()), 1)

    def _remember(self, document: Document) -> None:
        if self.delivery.key:
            document.handled = remembered(document.handled, self.now.timestamp(), len(self.delivery.keys))
            document.handled |= dict.fromkeys(self.delivery.keys, int(self.now.timestamp()))

    async def _document(self) -> tuple[str, Document, Item | None]:
        """Return the document to write: the saved one, else a marker with this event's inbox entry only."""
        if self._saved is not None:
            name, value = self._saved
            loaded = self._loaded[name]
            encoded = personal.encrypt_document(value, msgspec.json.encode(value), name)
            loaded.document.value = msgspec.Raw(encoded)
            return name, loaded.document, loaded.item
        if len(self.delivery.keys) > 1:
            raise OneDocument(
                "a handler of batches must save the document that the messages change, or set deduplicate=False"
            )
        name = f"handled/{self.delivery.key or new_id()}"
        item = await self._sidecar.get(name) if self.delivery.key else None
        if item is not None:
            raise AlreadyHandled
        return name, Document(), None

    def _ttl(self) -> int | None:
        return self._keep if self._saved is not None else MARKER_DAYS * 86_400


def _retrieve(writing: asyncio.Future[None]) -> None:
    """Mark the error of a write as retrieved, because its unit of work may have been cancelled."""
    if not writing.cancelled():
        writing.exception()


@dataclass(slots=True)
class StateContext(DocumentContext):
    """A unit of work on one document, with messages in the same transaction."""

    _lanes: Lanes
    _scheduled: list[Scheduled] = field(default_factory=list, init=False)

    def schedule(self, message: object, *, after: timedelta = timedelta(0)) -> str:
        """Schedule a command for a handler of this service after a delay. Scheduled messages survive crashes."""
        kind = message_type(type(message))
        identity = new_id()
        self.schedule_event(self.encode(kind, message, identity), after=after.total_seconds())
        return identity

    def schedule_event(self, event: msgspec.Raw, *, after: float) -> None:
        """Schedule an encoded message for this service in `after` seconds. Internal."""
        wait = max(after, 0.0)
        self._scheduled.append(Scheduled(self._lanes.clock() + wait, event, wait))

    async def commit(self) -> None:
        """Write the document, the inbox entry and the messages, then deliver the messages in the background.

        Raises:
            StateConflict: Another unit of work wrote the document first; nothing was written.
            AlreadyHandled: The event has been handled elsewhere.
            OneDocument: A batch must be deduplicated, but no document was saved.
            SidecarUnavailable: The outcome is unknown; if it was committed, the messages are delivered nevertheless.

        """
        if self._saved is None and not self.outgoing and not self._scheduled:
            return
        name, document, item = await self._document()
        before = await self._lanes.still_pending(document.pending)
        unit = new_id()
        messages = [Slot(name, unit, outgoing=self.outgoing)] if self.outgoing else []
        messages += [Slot(name, unit, scheduled=message) for message in self._scheduled]
        slots = await self._lanes.take(len(messages))
        contents = list(zip(slots, messages, strict=True))
        document.pending = [*before, *(Pointer(unit, slot) for slot in slots)]
        self._remember(document)
        write_document = Upsert(
            name, write(document), etag=item.etag if item else None, insert=item is None, ttl=self._ttl()
        )
        operations: list[Operation] = [Upsert(slot, write(content)) for slot, content in contents]
        self._lanes.committing(contents)
        writing = asyncio.ensure_future(self._sidecar.transact([write_document, *operations]))
        writing.add_done_callback(_retrieve)
        try:
            await asyncio.shield(writing)
        except StateConflict:
            self._lanes.return_slots(slots, written=True)
            raise
        except BaseException:  # a cancelled call may have been executed, too
            self._lanes.uncertain(contents, before, writing)
            raise
        self._lanes.committed(contents, before)


class LogOutbox(Lanes):
    """The lanes of one instance, with its units of work."""

    uses_state: ClassVar[bool] = True

    def unit(self, delivery: DeliveryContext, now: datetime) -> StateContext:
        """Open a unit of work."""
        return StateContext(delivery, now, self._max_event, self._sidecar, self)
