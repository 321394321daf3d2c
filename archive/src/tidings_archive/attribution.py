"""Attribute the dead letters of sidecars to subscriptions, with the system map.

A sidecar forwards an event that its app has not acknowledged, and adds neither the subscription nor a reason. This is
how every dead letter of an app without the SDK arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
import structlog

from tidings.messages.envelope import Envelope
from tidings_archive.domain.deadletter import UNKNOWN_REASON

MAP_ERRORS = (OSError, ValueError, RecursionError)
"""Exceptions for a system map that cannot be read, or is something else."""

log = structlog.get_logger(__name__)


class Reader(msgspec.Struct, frozen=True):
    """A subscription in the system map; `reads` holds its versions by type, `topics` the topics of these."""

    name: str
    app: str
    reads: dict[str, tuple[str, ...]] = {}
    topics: tuple[str, ...] = ()
    owner: str = ""
    contact: str = ""
    suspended: bool = False

    def shares_topic(self, other: Reader) -> bool:
        """Return True if it is another subscription of the same app with a topic of this one."""
        return self.name != other.name and self.app == other.app and not {*self.topics}.isdisjoint(other.topics)


class _Map(msgspec.Struct, frozen=True):
    subscriptions: tuple[Reader, ...]


@dataclass(frozen=True, slots=True)
class Attribution:
    """The subscription that failed (empty if unknown), and the reason as far as it is known."""

    subscription: str
    reason: str


def attribute(letter: Envelope, app: str, readers: tuple[Reader, ...]) -> Attribution:
    """Return the subscription that a sidecar's dead letter belongs to, and the reason as far as it is known.

    A replayed event names its subscription. For any other, exactly one subscription of the app must read its type, or
    its topic if none reads the type: what apps publish without the SDK often has Dapr's default type and no version.
    """
    own = [reader for reader in readers if reader.app == app]
    if letter.replayto not in ("", "*"):
        candidates = [reader for reader in own if reader.name == letter.replayto] or [Reader(letter.replayto, app)]
    else:
        version = f"v{letter.version}"
        by_type = [reader for reader in own if version in reader.reads.get(letter.type, ())]
        candidates = by_type or [reader for reader in own if letter.origin in reader.topics]
    if not candidates:
        return Attribution("", UNKNOWN_REASON)
    if len(candidates) > 1:
        names = ", ".join(sorted(reader.name for reader in candidates))
        return Attribution("", f"{UNKNOWN_REASON}; it was for one of {names}")
    [reader] = candidates
    reason = f"{reader.name} did not acknowledge it: {app} rejected it, answered with an error, or did not answer"
    return Attribution(reader.name, f"{reason}. The sidecar records no more; see the log of {app}")


def load_subscriptions(path: Path | None) -> tuple[Reader, ...]:
    """Return the subscriptions in the current system map, or none if the file does not exist or is unreadable."""
    if path is None:
        return ()
    try:
        status = path.stat()
        return _read(path, (status.st_ino, status.st_mtime_ns, status.st_size))
    except FileNotFoundError:  # the chart mounts the map only where there is one
        return ()
    except OSError as error:  # such as a folder
        log.error("archive.map_unreadable", path=str(path), error=str(error))
        return ()


def read_subscriptions(path: Path) -> tuple[Reader, ...]:
    """Return the subscriptions in a system map.

    Raises:
        MAP_ERRORS: The file cannot be read, or is not a system map.

    """
    return decode_subscriptions(path.read_bytes())


def decode_subscriptions(content: bytes) -> tuple[Reader, ...]:
    """Return the subscriptions in the content of a system map.

    Raises:
        MAP_ERRORS: It is not a system map.

    """
    return msgspec.json.decode(content, type=_Map).subscriptions


@lru_cache(maxsize=1)
def _read(path: Path, _version: tuple[int, ...]) -> tuple[Reader, ...]:
    try:
        return read_subscriptions(path)
    except (ValueError, RecursionError) as error:
        log.error("archive.map_unreadable", path=str(path), error=str(error))
        return ()
