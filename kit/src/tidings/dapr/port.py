"""Protocol of a sidecar, as the SDK uses it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidings.errors import SidecarError


@dataclass(frozen=True, slots=True)
class Item:
    """A value in the state store, with its version."""

    value: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Upsert:
    """Write a key.

    With `etag`, the write succeeds only if the key has that version. With `insert`, it succeeds only if the key does
    not exist (in Dapr, first-write concurrency without an etag). Otherwise it is unconditional. `ttl` is in seconds;
    None keeps the value indefinitely. `metadata` is passed to the component.
    """

    key: str
    value: bytes
    etag: str | None = None
    insert: bool = False
    ttl: int | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key if it exists; with `etag`, only in that version."""

    key: str
    etag: str | None = None


Operation = Upsert | Delete


class Sidecar(Protocol):
    """Publishing, state and secrets through a sidecar. Every call has a timeout; every failure is a `SidecarError`."""

    async def publish(self, topic: str, data: bytes, *, metadata: Mapping[str, str] | None = None) -> None:
        """Publish one CloudEvent (structured JSON); return once the broker has acknowledged it.

        Raises:
            SidecarUnavailable: The sidecar or broker is unavailable or did not answer in time; the event may have been
                published.
            PublishRefused: The component is unknown, or the topic is forbidden for this app or missing.

        """

    async def publish_many(self, topic: str, events: Sequence[bytes]) -> list[SidecarError | None]:
        """Publish several CloudEvents in one call, **in no particular order**; return an error or None for each.

        None means that the broker has acknowledged the event. The errors are those of `publish`; none is raised.
        """

    async def get(self, key: str) -> Item | None:
        """Return the item of a key, or None."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, Item]:
        """Return the items of the keys that exist."""

    async def transact(self, operations: Iterable[Operation]) -> None:
        """Write several keys in one state transaction.

        Raises:
            StateConflict: The condition of an etag or an `insert` does not hold. Stores with real transactions (SQLite,
                PostgreSQL) have written nothing; **Redis has written the other operations** (see docs/decisions/0003).
            SidecarUnavailable: The outcome is unknown.

        """

    async def get_secret(self, store: str, name: str) -> dict[str, str]:
        """Return the texts of a secret in a secret store, by key.

        Raises:
            SidecarUnavailable: The sidecar or store is unavailable, has no such secret, or forbids this app to read it.

        """

    async def ready(self, *, state: bool = True) -> bool:
        """Return True if the sidecar answers and has loaded the pub/sub component, and the store if `state` is set."""

    async def close(self) -> None:
        """Close the connection."""
