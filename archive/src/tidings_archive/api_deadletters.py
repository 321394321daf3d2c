"""HTTP API for dead letters: list, read, replay and discard."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from tidings.fastapi import CurrentService
from tidings_archive import access, deadletters, responses
from tidings_archive.access import CurrentClient
from tidings_archive.api import PLAIN, CurrentDatabase, Cursor, DryRun, Limit, Requester, Text, http_errors
from tidings_archive.deadletters import Decision, UnknownDeadLetter
from tidings_archive.domain.deadletter import DeadLetterError, State
from tidings_archive.storage import MAX_NUMBER

router = APIRouter(prefix="/deadletters", tags=["dead letters"], dependencies=[Depends(access.require_reader)])
_STATUSES: dict[type[Exception], HTTPStatus] = {
    UnknownDeadLetter: HTTPStatus.NOT_FOUND,
    DeadLetterError: HTTPStatus.CONFLICT,
}
Number = Annotated[int, Path(ge=1, le=MAX_NUMBER)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    by: Requester = Field(default="unknown", description="Who decides this, for the audit log")


class ReplayBody(_Body):
    """Parameters of a replay."""

    subscription: str | None = Field(
        default=None,
        max_length=253,
        pattern=PLAIN,
        description="Required if the dead letter comes from a sidecar, which does not record the subscription",
    )
    batch: str = Field(
        default="",
        max_length=100,
        pattern=PLAIN,
        description="Group of replays whose outcomes are counted together: see /outcomes",
    )


class DiscardBody(_Body):
    """Parameters of a discard."""

    reason: str = Field(min_length=1, max_length=1000, pattern=PLAIN)


@router.get("", summary="Find dead letters", response_model=responses.DeadLetterPage)
async def get_dead_letters(
    database: CurrentDatabase,
    app: Text | None = None,
    subscription: Text | None = None,
    type_: Annotated[Text | None, Query(alias="type")] = None,
    state: State | Literal["any"] = "open",
    correlation_id: Annotated[Text | None, Query(alias="correlationId")] = None,
    event_id: Annotated[Text | None, Query(alias="eventId")] = None,
    not_batch: Annotated[
        Text | None, Query(alias="notBatch", description="Leave out those that this batch has replayed")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Return dead letters, newest first, by default the open ones; `next` is the cursor of the next page."""
    filters = {
        "app": app,
        "subscription": subscription,
        "type": type_,
        "state": None if state == "any" else state,
        "correlation_id": correlation_id,
        "id": event_id,
    }
    async with database.connect(write=False) as connection:
        page, following = await deadletters.find(connection, filters, limit, cursor, not_batch=not_batch)
    return {"deadLetters": page, "next": following}


@router.get("/outcomes", summary="Outcomes of a batch of replayed dead letters", response_model=responses.Outcomes)
async def get_outcomes(database: CurrentDatabase, batch: Annotated[Text, Query(min_length=1)]) -> dict[str, int]:
    """Return the number of replays in a batch, in total and by confirmed outcome."""
    async with database.connect(write=False) as connection:
        return await deadletters.count_outcomes(connection, batch)


@router.get("/{number}", summary="Get a dead letter", response_model=responses.DeadLetterDetails)
async def get_dead_letter(number: Number, database: CurrentDatabase) -> dict[str, Any]:
    """Return the reason, the event and the audit log of a dead letter; 404 if it does not exist."""
    with http_errors(_STATUSES):
        async with database.connect(write=False) as connection:
            return await deadletters.get_details(connection, number)


@router.post("/{number}/replay", status_code=202, summary="Replay a dead letter")
async def post_replay(
    number: Number,
    body: ReplayBody,
    client: CurrentClient,
    service: CurrentService,
    database: CurrentDatabase,
    response: Response,
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Replay a dead letter to the subscription that failed; 404 if it does not exist, 409 if it may not be replayed.

    A dry run returns what would be sent (200), and fails where the replay would.
    """
    by = body.by if dry_run else client.authorize_change(body.by)
    decision = Decision(number, by, subscription=body.subscription, batch=body.batch)
    with http_errors(_STATUSES):
        if not dry_run:
            return await service.execute(deadletters.replay, decision)
        async with database.connect(write=False) as connection:
            planned = await deadletters.preview(connection, decision)
    response.status_code = HTTPStatus.OK
    return planned


@router.post("/{number}/discard", summary="Discard a dead letter", response_model=responses.DeadLetter)
async def post_discard(
    number: Number, body: DiscardBody, client: CurrentClient, service: CurrentService
) -> dict[str, Any]:
    """Discard a dead letter, which remains readable; 404 if it does not exist, 409 if it was handled."""
    decision = Decision(number, client.authorize_change(body.by), body.reason)
    with http_errors(_STATUSES):
        return await service.execute(deadletters.discard, decision)
