"""HTTP API for replays: start, read and cancel."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime, Field

from tidings.fastapi import ClosedCamelModel, CurrentService
from tidings.messages.envelope import new_id
from tidings_archive import access, replays, responses
from tidings_archive.access import CurrentClient
from tidings_archive.api import PLAIN, CurrentDatabase, DryRun, Limit, Rate, ReplayId, Requester, Text
from tidings_archive.events import ReplayEvents
from tidings_archive.replays import ReplayOrder

router = APIRouter(prefix="/replays", tags=["replays"], dependencies=[Depends(access.require_reader)])
By = Annotated[Requester, Query(description="Who cancels it, for the audit log")]


class ReplayBody(ClosedCamelModel):
    """Events to replay, their consumer, and the rate."""

    replay_id: ReplayId | None = Field(default=None, description="A repeated id does not start a second replay")
    consumer: str = Field(min_length=1, max_length=253, pattern=PLAIN, description="App id")
    subscription: str | None = Field(
        default=None,
        max_length=253,
        pattern=PLAIN,
        description="Default: each one that reads the type",
    )
    types: tuple[Text, ...] = Field(
        default=(),
        max_length=200,
        description="orders.orderPlaced, orders.orderConfirmed.v1 or orders.*; default: every type",
    )
    since: AwareDatetime | None = Field(default=None, description="Happened then or later")
    until: AwareDatetime | None = Field(default=None, description="Happened before")
    correlation_id: Text | None = None
    ids: tuple[Text, ...] = Field(default=(), max_length=1000, description="Ids of events; default: any")
    match: tuple[dict[str, Any], ...] = Field(
        default=(), max_length=64, description="Filters as in an EventSubscription, without CEL; all must match"
    )
    rate_per_second: Rate | None = Field(default=None, description="Largest number of events per second")
    by: Requester = Field(default="unknown", description="Who asks, for the audit log")

    def request(self) -> ReplayEvents:
        """Return the command."""
        fields = self.model_dump(by_alias=False, exclude={"by", "replay_id"})
        return ReplayEvents(replay_id=self.replay_id or new_id(), **fields)


@router.post("", status_code=202, summary="Replay archived events")
async def post_replay(
    body: ReplayBody,
    client: CurrentClient,
    service: CurrentService,
    database: CurrentDatabase,
    response: Response,
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Start a replay; a dry run only counts events (200). 422 if the request is invalid."""
    if not dry_run:
        return await service.execute(replays.start, ReplayOrder(body.request(), client.authorize_change(body.by)))
    async with database.connect(write=False) as connection:
        counts = await replays.preview(connection, body.request())
    response.status_code = HTTPStatus.OK
    return {"dryRun": True, "consumer": body.consumer, "matched": sum(counts.values()), "counts": counts}


@router.get("", summary="List the latest replays", response_model=responses.Replays)
async def get_replays(database: CurrentDatabase, limit: Limit = 20) -> dict[str, Any]:
    """Return the latest replays, newest first."""
    async with database.connect(write=False) as connection:
        return {"replays": await replays.list_replays(connection, limit)}


@router.get("/{replay_id}", summary="Get a replay", response_model=responses.Replay, response_model_exclude_unset=True)
async def get_replay(replay_id: Text, database: CurrentDatabase) -> dict[str, Any]:
    """Return the state and progress of a replay; 404 if it does not exist."""
    async with database.connect(write=False) as connection:
        return await replays.get_replay(connection, replay_id)


@router.post(
    "/{replay_id}/cancel", summary="Cancel a replay", response_model=responses.Replay, response_model_exclude_unset=True
)
async def post_cancel(
    replay_id: Text, client: CurrentClient, service: CurrentService, by: By = "unknown"
) -> dict[str, Any]:
    """Cancel a replay; one that has ended does not change. 404 if it does not exist."""
    return await service.execute(replays.cancel, (replay_id, client.authorize_change(by)))
