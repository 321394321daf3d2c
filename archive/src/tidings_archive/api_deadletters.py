"""The archive's HTTP API for dead letters: list, show, replay, discard."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from tidings.fastapi import CurrentService
from tidings_archive import access, answers, deadletters
from tidings_archive.access import LONGEST_NAME, CurrentVisitor
from tidings_archive.api import MAX_NUMBER, PLAIN, CurrentDatabase, Cursor, DryRun, Limit, Text, http_errors
from tidings_archive.deadletters import Decision, UnknownDeadLetter
from tidings_archive.domain.deadletter import DeadLetterError, State

router = APIRouter(prefix="/deadletters", tags=["dead letters"], dependencies=[Depends(access.reader)])
_STATUSES: dict[type[Exception], HTTPStatus] = {
    UnknownDeadLetter: HTTPStatus.NOT_FOUND,
    DeadLetterError: HTTPStatus.CONFLICT,
}
Number = Annotated[int, Path(ge=1, le=MAX_NUMBER)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    by: str = Field(
        default="unknown",
        min_length=1,
        max_length=LONGEST_NAME,
        pattern=PLAIN,
        description="Who decides this, for the audit",
    )


class ReplayBody(_Body):
    """Send it again."""

    subscription: str | None = Field(
        default=None,
        max_length=253,
        pattern=PLAIN,
        description="Needed where the sidecar gave the event up: then nobody knows which one failed",
    )
    batch: str = Field(
        default="", max_length=100, pattern=PLAIN, description="What this is part of, for counting: see /outcomes"
    )


class DiscardBody(_Body):
    """Decide that nobody needs it."""

    reason: str = Field(min_length=1, max_length=1000, pattern=PLAIN)


@router.get("", summary="Find dead letters", response_model=answers.DeadLetterPage)
async def get_dead_letters(
    database: CurrentDatabase,
    app: Text | None = None,
    subscription: Text | None = None,
    type_: Annotated[Text | None, Query(alias="type")] = None,
    state: State | Literal["any"] = "open",
    correlation_id: Annotated[Text | None, Query(alias="correlationId")] = None,
    event_id: Annotated[Text | None, Query(alias="eventId")] = None,
    not_batch: Annotated[
        Text | None, Query(alias="notBatch", description="None that was sent again as a part of this batch")
    ] = None,
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
        found, following = await deadletters.found(connection, wanted, limit, cursor, not_batch=not_batch)
    return {"deadLetters": found, "next": following}


@router.get("/outcomes", summary="Outcomes of a batch of replayed dead letters", response_model=answers.Outcomes)
async def get_outcomes(database: CurrentDatabase, batch: Annotated[Text, Query(min_length=1)]) -> dict[str, int]:
    """Answer how many were sent as a part of a batch, and what their consumers have confirmed."""
    async with database.connect(write=False) as connection:
        return await deadletters.outcomes(connection, batch)


@router.get("/{number}", summary="One dead letter", response_model=answers.DeadLetterDetails)
async def get_dead_letter(number: Number, database: CurrentDatabase) -> dict[str, Any]:
    """Answer why it failed, the event itself, and all that was done about it; 404 where there is none."""
    with http_errors(_STATUSES):
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
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Send it again to the consumer that failed and no other; 404 where there is none, 409 where it may not be.

    A dry run answers what would be sent (200), and is refused as the replay itself would be.
    """
    by = body.by if dry_run else visitor.deciding(body.by)
    decision = Decision(number, by, subscription=body.subscription, batch=body.batch)
    with http_errors(_STATUSES):
        if not dry_run:
            return await service.execute(deadletters.replay, decision)
        async with database.connect(write=False) as connection:
            found = await deadletters.preview(connection, decision)
    response.status_code = HTTPStatus.OK
    return found


@router.post("/{number}/discard", summary="Decide that nobody needs it", response_model=answers.DeadLetter)
async def post_discard(
    number: Number, body: DiscardBody, visitor: CurrentVisitor, service: CurrentService
) -> dict[str, Any]:
    """Put it away; it can still be read. 404 where there is none, 409 where it was handled."""
    decision = Decision(number, visitor.deciding(body.by), body.reason)
    with http_errors(_STATUSES):
        return await service.execute(deadletters.discard, decision)
