"""What the kit asks of a sidecar, as a protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidings.errors import SidecarError


@dataclass(frozen=True, slots=True)
class Item:
    """A value as the state store has it."""

    value: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Upsert:
    """Write a key.

    `etag` None and `insert` False writes whatever is there; `etag` set writes only over that version;
    `insert` True writes only where nothing is (Dapr: first-write concurrency without an etag).
    `ttl` is in seconds; None keeps the value for ever. `metadata` is for the component.
    """

    key: str
    value: bytes
    etag: str | None = None
    insert: bool = False
    ttl: int | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key, whether it is there or not; with `etag` only in that version."""

    key: str
    etag: str | None = None


Operation = Upsert | Delete


class Sidecar(Protocol):
    """Publishing and state through a sidecar. Every call has a deadline; every failure is a `SidecarError`."""

    async def publish(self, topic: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        """Hand one CloudEvent (structured JSON) to the broker; returns once the broker has acknowledged it.

        Raises:
            SidecarUnavailable: no sidecar, no broker, or no answer in time; the event may or may not be out.
            PublishRefused: unknown component, topic not allowed for this app, or no stream for it.

        """

    async def publish_many(self, topic: str, events: Sequence[bytes]) -> list[SidecarError | None]:
        """Hand several CloudEvents to the broker in one call, **in no order**; answers for each what went wrong.

        None is an event that the broker has acknowledged. The errors are those of `publish`; none is raised.
        """

    async def get(self, key: str) -> Item | None:
        """Read one key; None where there is nothing."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, Item]:
        """Read many keys at once; those with nothing are left out."""

    async def transact(self, operations: Iterable[Operation]) -> None:
        """Write several keys in one state transaction.

        Raises:
            StateConflict: an etag or an `insert` did not hold. On stores with real transactions (SQLite, PostgreSQL)
                nothing was written; **on Redis the other operations were** (see docs/decisions/0003).
            SidecarUnavailable: the outcome is unknown.

        """

    async def ready(self) -> bool:
        """Whether the sidecar answers and its components are loaded."""

    async def close(self) -> None:
        """Give the connection back."""
