"""The archive's HTTP API for events: find, read, count. Reading never waits for what is being written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import AwareDatetime, StringConstraints

from tidings.fastapi import CurrentService
from tidings.messages.envelope import MAX_ATTRIBUTE
from tidings.outbox.sql import Database
from tidings.outbox.table import TableOutbox
from tidings_archive import access, answers, auditing, searching
from tidings_archive.auditing import Deed
from tidings_archive.domain.selection import Kind, Selection, SelectionError

router = APIRouter(tags=["events"], dependencies=[Depends(access.reader)])
DryRun = Annotated[bool, Query(alias="dryRun", description="Only answer what would be sent; this needs no token")]
MAX_NUMBER = 2**63 - 1
"""The largest number that a database keeps."""
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[int | None, Query(ge=1, le=MAX_NUMBER, description="`next` of the page before")]
PLAIN = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""Texts that are looked up or written down: without control characters, which no attribute of an event has."""
Text = Annotated[str, StringConstraints(max_length=MAX_ATTRIBUTE, pattern=PLAIN)]


def current_database(service: CurrentService) -> Database:
    """The database behind a request."""
    if not isinstance(service.outbox, TableOutbox):
        raise TypeError("archive publishes from a table in its own database: give its Service a TableOutbox")
    return service.outbox.database


CurrentDatabase = Annotated[Database, Depends(current_database)]


@contextmanager
def http_errors(statuses: Mapping[type[Exception], HTTPStatus]) -> Iterator[None]:
    """Answer errors with the status of the first matching class, and their text as the detail."""
    try:
        yield
    except tuple(statuses) as error:
        status = next(status for kind, status in statuses.items() if isinstance(error, kind))
        raise HTTPException(status, str(error)) from error


def _selection(
    types: Annotated[
        list[Text] | None,
        Query(
            alias="type",
            max_length=200,
            description="orders.orderPlaced, orders.orderConfirmed.v2 or orders.*; several mean any",
        ),
    ] = None,
    correlation_id: Annotated[Text | None, Query(alias="correlationId")] = None,
    subject: Text | None = None,
    source: Text | None = None,
    topic: Text | None = None,
    since: Annotated[AwareDatetime | None, Query(description="Happened then or later")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Happened before")] = None,
    q: Annotated[str | None, Query(max_length=200, pattern=PLAIN, description="Text anywhere in the event")] = None,
) -> Selection:
    try:
        kinds = tuple(Kind.parse(text) for text in types or ())
        return Selection(kinds, since, until, correlation_id, subject, source, topic, q)
    except SelectionError as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error


Selected = Annotated[Selection, Depends(_selection)]


@router.get("/events", summary="Find events", response_model=answers.EventPage)
async def get_events(
    database: CurrentDatabase, selection: Selected, limit: Limit = 100, cursor: Cursor = None
) -> dict[str, Any]:
    """Answer the latest first; `next` is the cursor of the next page, null on the last."""
    async with database.connect(write=False) as connection:
        page = await searching.search(connection, selection, limit, cursor)
    return {"events": page.events, "next": page.next}


@router.get("/events/{event_id}", summary="One event", response_model=answers.Versions)
async def get_event(event_id: Text, database: CurrentDatabase) -> dict[str, Any]:
    """Answer an event in every version that it was published in; 404 where there is none."""
    async with database.connect(write=False) as connection:
        found = await searching.versions_of(connection, event_id)
    if not found:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"no event {event_id} has arrived")
    return {"events": found}


@router.get("/counts", summary="How many events of each type there are")
async def get_counts(database: CurrentDatabase, selection: Selected) -> dict[str, int]:
    """Answer the number of events by type and version, such as `orders.orderPlaced.v1`."""
    async with database.connect(write=False) as connection:
        return await searching.counts(connection, *searching.matching(selection))


@router.get("/audit", summary="Who did what")
async def get_audit(database: CurrentDatabase, limit: Limit = 100) -> dict[str, list[Deed]]:
    """Answer the latest replays and decisions about dead letters, the latest first."""
    async with database.connect(write=False) as connection:
        return {"deeds": await auditing.deeds(connection, limit=limit)}
