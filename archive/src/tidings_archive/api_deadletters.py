"""HTTP API for dead letters: list, read, replay and discard."""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AwareDatetime, Field, StringConstraints

from tidings.fastapi import ClosedCamelModel, CurrentService
from tidings.messages.envelope import new_id
from tidings_archive import access, deadletters, redrives, responses
from tidings_archive.access import CurrentClient
from tidings_archive.api import PLAIN, CurrentDatabase, Cursor, DryRun, Limit, Rate, ReplayId, Requester, Text
from tidings_archive.deadletters import Decision
from tidings_archive.domain.deadletter import LetterFilter, State
from tidings_archive.redrives import RedriveOrder
from tidings_archive.storage import MAX_NUMBER

router = APIRouter(prefix="/deadletters", tags=["dead letters"], dependencies=[Depends(access.require_reader)])
_REASON = "A part of the error and its reason, in upper or lower case"
Reason = Annotated[str, StringConstraints(max_length=500, pattern=PLAIN)]
Number = Annotated[int, Path(ge=1, le=MAX_NUMBER)]


class _Body(ClosedCamelModel):
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


class RedriveBody(_Body):
    """Which open dead letters to replay, and the rate."""

    replay_id: ReplayId | None = Field(default=None, description="A repeated id does not start a second redrive")
    app: Text | None = Field(default=None, description="Default: every app")
    subscription: Text | None = Field(default=None, description="Default: every subscription")
    type: Text | None = Field(default=None, description="Event type; default: every type")
    correlation_id: Text | None = None
    reason: Reason | None = Field(default=None, description=_REASON)
    since: AwareDatetime | None = Field(default=None, description="Arrived then or later")
    until: AwareDatetime | None = Field(default=None, description="Arrived before")
    rate_per_second: Rate | None = Field(default=None, description="Largest number of dead letters per second")

    def to_filter(self) -> LetterFilter:
        """Return the filter."""
        return LetterFilter(**self.model_dump(by_alias=False, exclude={"by", "replay_id", "rate_per_second"}))


def _filter(
    app: Text | None = None,
    subscription: Text | None = None,
    type_: Annotated[Text | None, Query(alias="type")] = None,
    state: State | Literal["any"] = "open",
    correlation_id: Annotated[Text | None, Query(alias="correlationId")] = None,
    event_id: Annotated[Text | None, Query(alias="eventId")] = None,
    reason: Annotated[Reason | None, Query(description=_REASON)] = None,
    since: Annotated[AwareDatetime | None, Query(description="Arrived then or later")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Arrived before")] = None,
) -> LetterFilter:
    known = None if state == "any" else state
    return LetterFilter(app, subscription, type_, known, correlation_id, event_id, reason, since, until)


@router.get("", summary="Find dead letters", response_model=responses.DeadLetterPage)
async def get_dead_letters(
    database: CurrentDatabase,
    letter_filter: Annotated[LetterFilter, Depends(_filter)],
    not_batch: Annotated[
        Text | None, Query(alias="notBatch", description="Leave out those that this batch has replayed")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Return dead letters, newest first, by default the open ones; `next` is the cursor of the next page.

    With other conditions than `app`, `state` and `eventId`, a page examines 20,000 dead letters at most. It may
    therefore have fewer than `limit`, or none, although there is a next page.
    """
    async with database.connect(write=False) as connection:
        page, following = await deadletters.find(connection, letter_filter, limit, cursor, not_batch=not_batch)
    return {"deadLetters": page, "next": following}


@router.get("/outcomes", summary="Outcomes of a batch of replayed dead letters", response_model=responses.Outcomes)
async def get_outcomes(database: CurrentDatabase, batch: Annotated[Text, Query(min_length=1)]) -> dict[str, int]:
    """Return the number of replays in a batch, in total and by confirmed outcome."""
    async with database.connect(write=False) as connection:
        return (await deadletters.count_outcomes(connection, batch))[batch]


@router.post("/redrive", status_code=202, summary="Replay the open dead letters that match a filter")
async def post_redrive(
    body: RedriveBody,
    client: CurrentClient,
    service: CurrentService,
    database: CurrentDatabase,
    response: Response,
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Start a redrive: a replay that sends each dead letter to the subscription that failed, at a rate.

    Its progress is that of a replay, and it is cancelled like one. A dry run only counts dead letters, by subscription
    (200). 422 if the request is invalid.
    """
    if not dry_run:
        by = client.authorize_change(body.by)
        order = RedriveOrder(body.replay_id or new_id(), body.to_filter(), body.rate_per_second, by)
        return await service.execute(redrives.start, order)
    async with database.connect(write=False) as connection:
        counts = await redrives.preview(connection, body.to_filter())
    response.status_code = HTTPStatus.OK
    return {"dryRun": True, "matched": sum(counts.values()), "counts": counts}


@router.get("/{number}", summary="Get a dead letter", response_model=responses.DeadLetterDetails)
async def get_dead_letter(number: Number, database: CurrentDatabase) -> dict[str, Any]:
    """Return the reason, the event and the audit log of a dead letter; 404 if it does not exist."""
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
    return await service.execute(deadletters.discard, decision)
