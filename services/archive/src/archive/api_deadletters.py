"""The archive's HTTP API for dead letters: list, show, replay, discard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from archive import deadletters
from archive.access import LONGEST_NAME, CurrentVisitor
from archive.api import MAX_NUMBER, CurrentDatabase, Cursor, Limit
from archive.deadletters import Decision, UnknownDeadLetter
from archive.domain.deadletter import DeadLetterError, State
from tidings.fastapi import CurrentService

router = APIRouter(prefix="/deadletters", tags=["dead letters"])
Number = Annotated[int, Path(ge=1, le=MAX_NUMBER)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    by: str = Field(
        default="unknown", min_length=1, max_length=LONGEST_NAME, description="Who decides this, for the audit"
    )


class ReplayBody(_Body):
    """Send it again."""

    subscription: str | None = Field(
        default=None, description="Needed where the sidecar gave the event up: then nobody knows which one failed"
    )
    dry_run: bool = Field(default=False, alias="dryRun", description="Only say what would be sent, and to whom")


class DiscardBody(_Body):
    """Decide that nobody needs it."""

    reason: str = Field(min_length=1, max_length=1000)


@router.get("", summary="Find dead letters")
async def get_dead_letters(
    database: CurrentDatabase,
    app: str | None = None,
    subscription: str | None = None,
    type_: Annotated[str | None, Query(alias="type")] = None,
    state: State | Literal["any"] = "open",
    correlation_id: Annotated[str | None, Query(alias="correlationId")] = None,
    event_id: Annotated[str | None, Query(alias="eventId")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Answer the latest first, open ones unless `state` says otherwise; `next` is the cursor of the next page."""
    wanted = {
        "app": app,
        "subscription": subscription,
        "type": type_,
        "state": None if state == "any" else state,
        "correlation_id": correlation_id,
        "id": event_id,
    }
    async with database.connect(write=False) as connection:
        found, following = await deadletters.found(connection, wanted, limit, cursor)
    return {"deadLetters": found, "next": following}


@router.get("/{number}", summary="One dead letter")
async def get_dead_letter(number: Number, database: CurrentDatabase) -> dict[str, Any]:
    """Answer why it failed, the event itself, and all that was done about it; 404 where there is none."""
    with _refusals():
        async with database.connect(write=False) as connection:
            return await deadletters.whole(connection, number)


@router.post("/{number}/replay", status_code=202, summary="Send it again")
async def post_replay(
    number: Number,
    body: ReplayBody,
    visitor: CurrentVisitor,
    service: CurrentService,
    database: CurrentDatabase,
    response: Response,
) -> dict[str, Any]:
    """Send it again to the consumer that failed and no other; 404 where there is none, 409 where it may not be.

    A dry run answers what would be sent (200), and is refused as the replay itself would be.
    """
    by = body.by if body.dry_run else visitor.deciding(body.by)
    decision = Decision(number, by, subscription=body.subscription)
    with _refusals():
        if not body.dry_run:
            return await service.execute(deadletters.replay, decision)
        async with database.connect(write=False) as connection:
            found = await deadletters.preview(connection, decision)
    response.status_code = HTTPStatus.OK
    return found


@router.post("/{number}/discard", summary="Decide that nobody needs it")
async def post_discard(
    number: Number, body: DiscardBody, visitor: CurrentVisitor, service: CurrentService
) -> dict[str, Any]:
    """Put it away; it can still be read. 404 where there is none, 409 where it was replayed."""
    decision = Decision(number, visitor.deciding(body.by), body.reason)
    with _refusals():
        return await service.execute(deadletters.discard, decision)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except UnknownDeadLetter as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from error
    except DeadLetterError as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from error
