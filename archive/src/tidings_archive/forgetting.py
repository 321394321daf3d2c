"""Erases persons: destroys the key of a person, and asks the services to delete what they store about that person."""

import asyncio
import hashlib

import structlog

from tidings import Service
from tidings.errors import EventTooLarge, MalformedEvent
from tidings.messages import personal
from tidings.outbox.table import SqlContext
from tidings.subject_keys import KeyStore
from tidings_archive import audit_log
from tidings_archive.events import SubjectForgotten

log = structlog.get_logger(__name__)
INTERVAL = 5.0
"""Seconds between two checks for persons that `tidings forget` has erased in the key store directly."""


class NoKeys(Exception):
    """This archive has no key store."""

    def __init__(self) -> None:
        super().__init__("the archive has no keys of persons: set TIDINGS_KEYS to the keys that the services use")


def keys() -> KeyStore:
    """Return the key store.

    Raises:
        NoKeys: `TIDINGS_KEYS` is not set.

    """
    store = personal.keys_in_use()
    if not isinstance(store, KeyStore):
        raise NoKeys
    return store


async def forget(subject: str, by: str, service: Service) -> bool:
    """Destroy a person's key and record that; return whether it existed. `run` notifies the services.

    Raises:
        NoKeys: `TIDINGS_KEYS` is not set.

    """
    existed = await asyncio.to_thread(keys().destroy, subject)

    async def record_erasure(_: object, context: SqlContext) -> None:
        detail = "key destroyed" if existed else "no key existed; none will be made"
        await audit_log.record(context.connection, context.now, by, "forgot", f"subject/{subject}", detail)

    await service.execute(record_erasure, None)
    return existed


async def run(service: Service) -> None:
    """Publish `tidings.subjectForgotten` once for each erased person."""
    try:
        store = keys()
    except NoKeys:
        return
    while True:
        for subject in await asyncio.to_thread(store.forgotten):
            await _announce(subject, service)
            await asyncio.to_thread(store.announced, subject)
        await asyncio.sleep(INTERVAL)


async def _announce(subject: str, service: Service) -> None:
    # The same id from every replica, and after a crash between publishing and recording: consumers handle it once.
    identity = f"forgotten-{hashlib.sha256(subject.encode()).hexdigest()[:32]}"

    async def publish(_: object, context: SqlContext) -> None:
        context.publish(SubjectForgotten(person=subject, forgotten_at=context.now), event_id=identity)

    try:
        await service.execute(publish, None)
    except (MalformedEvent, EventTooLarge) as error:  # no event can have named such a person
        log.error("forgetting.not_announced", reason=str(error))
