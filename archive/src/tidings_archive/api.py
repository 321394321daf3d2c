"""HTTP API for archived events: search, read and count. Reads do not wait for writes."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import AwareDatetime, Field, StringConstraints
from sqlalchemy import RowMapping

from tidings.fastapi import CurrentService
from tidings.messages.envelope import MAX_ATTRIBUTE
from tidings.outbox.sql import Database
from tidings.outbox.table import SqlContext, TableOutbox
from tidings_archive import access, audit_log, event_queries, forgetting, fulltext, responses
from tidings_archive.access import CurrentClient
from tidings_archive.audit_log import AuditEntry
from tidings_archive.domain.selection import Selection, TypePattern
from tidings_archive.replays import MAX_REPLAY_ID
from tidings_archive.storage import MAX_NUMBER

router = APIRouter(tags=["events"], dependencies=[Depends(access.require_reader)])
DryRun = Annotated[bool, Query(alias="dryRun", description="Only return what would be sent; requires no token")]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[int | None, Query(ge=1, le=MAX_NUMBER, description="`next` of the previous page")]
PLAIN = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""Pattern of texts without control characters, which no attribute of an event contains."""
Text = Annotated[str, StringConstraints(max_length=MAX_ATTRIBUTE, pattern=PLAIN)]
ReplayId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_REPLAY_ID, pattern=PLAIN)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Per second."""
Requester = Annotated[str, StringConstraints(min_length=1, max_length=access.MAX_NAME_LENGTH, pattern=PLAIN)]
"""Who requests a change, as the client claims it."""


def current_database(service: CurrentService) -> Database:
    """Return the database of a request's service."""
    if not isinstance(service.outbox, TableOutbox):
        raise TypeError("the archive requires a Service with a TableOutbox")
    return service.outbox.database


CurrentDatabase = Annotated[Database, Depends(current_database)]


def _selection(
    types: Annotated[
        list[Text] | None,
        Query(
            alias="type",
            max_length=200,
            description="orders.orderPlaced, orders.orderConfirmed.v2 or orders.*; an event must match one of them",
        ),
    ] = None,
    correlation_id: Annotated[Text | None, Query(alias="correlationId")] = None,
    subject: Text | None = None,
    source: Text | None = None,
    topic: Text | None = None,
    since: Annotated[AwareDatetime | None, Query(description="Happened then or later")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Happened before")] = None,
    q: Annotated[
        str | None, Query(max_length=200, pattern=PLAIN, description="Words that all occur in the event")
    ] = None,
) -> Selection:
    if q is not None and not fulltext.words(q):
        detail = f"q has no word to look for: {q!r}; write letters or digits"
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    patterns = tuple(TypePattern.parse(text) for text in types or ())
    return Selection(patterns, since, until, correlation_id, subject, source, topic, q)


Selected = Annotated[Selection, Depends(_selection)]


@router.get("/events", summary="Find events", response_model=responses.EventPage)
async def get_events(
    database: CurrentDatabase, selection: Selected, limit: Limit = 100, cursor: Cursor = None
) -> dict[str, Any]:
    """Return the newest events first; `next` is the cursor of the next page, null on the last."""
    async with database.connect(write=False) as connection:
        page = await event_queries.search(connection, selection, limit, cursor)
    return {"events": page.events, "next": page.next}


@router.get("/events/{event_id}", summary="Get an event", response_model=responses.Versions)
async def get_event(event_id: Text, database: CurrentDatabase) -> dict[str, Any]:
    """Return an event in every version in which it was published; 404 if it does not exist."""
    return {"events": [event_queries.to_json(row) for row in await _versions(database, event_id)]}


async def _versions(database: Database, event_id: str) -> Sequence[RowMapping]:
    async with database.connect(write=False) as connection:
        versions = await event_queries.find_versions(connection, event_id)
    if not versions:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"the archive has no event {event_id}")
    return versions


@router.post(
    "/decrypted-events/{event_id}", summary="Get an event with its personal data", response_model=responses.Versions
)
async def post_personal(
    event_id: Text, database: CurrentDatabase, client: CurrentClient, service: CurrentService
) -> dict[str, Any]:
    """Return an event with its personal data in plain text, and write this to the audit log.

    403 for users without this right, and 409 if the archive has no keys. Data of forgotten persons is `***`.
    """
    by = client.authorize_personal()
    forgetting.keys()
    rows = await _versions(database, event_id)

    async def record_reading(_: object, context: SqlContext) -> None:
        await audit_log.record(context.connection, context.now, by, "read", f"event/{event_id}", "personal data")

    await service.execute(record_reading, None)
    return {"events": await asyncio.to_thread(lambda: [event_queries.to_json(row, decrypted=True) for row in rows])}


@router.get("/counts", summary="Count events by type")
async def get_counts(database: CurrentDatabase, selection: Selected) -> dict[str, int]:
    """Return the number of events by type and version, such as `orders.orderPlaced.v1`."""
    async with database.connect(write=False) as connection:
        return await event_queries.count_by_type(
            connection, *event_queries.all_conditions_for(selection, connection.dialect.name)
        )


@router.get("/audit", summary="Get the audit log")
async def get_audit(
    database: CurrentDatabase, who: Text | None = None, action: Text | None = None, limit: Limit = 100
) -> dict[str, list[AuditEntry]]:
    """Return the latest replays and decisions about dead letters, newest first, optionally of one user or action."""
    async with database.connect(write=False) as connection:
        return {"entries": await audit_log.list_entries(connection, limit=limit, action=action, who=who)}
