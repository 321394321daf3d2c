"""The archive's HTTP API for replays: ask for one, look how far it is, end it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tidings.fastapi import CurrentService
from tidings.messages.envelope import new_id
from tidings_archive import access, answers, replays
from tidings_archive.access import LONGEST_NAME, CurrentVisitor
from tidings_archive.api import PLAIN, CurrentDatabase, DryRun, Limit, Text, http_errors
from tidings_archive.events import ReplayEvents
from tidings_archive.replays import Asked, ReplayError, UnknownReplay

router = APIRouter(prefix="/replays", tags=["replays"], dependencies=[Depends(access.reader)])
_STATUSES: dict[type[Exception], HTTPStatus] = {
    UnknownReplay: HTTPStatus.NOT_FOUND,
    ReplayError: HTTPStatus.UNPROCESSABLE_ENTITY,
}
By = Annotated[
    str, Query(min_length=1, max_length=LONGEST_NAME, pattern=PLAIN, description="Who ends it, for the audit")
]


class ReplayBody(BaseModel):
    """Which events are to be sent again, to whom, and how fast."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    replay_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=replays.LONGEST_ID,
        pattern=PLAIN,
        description="The same one twice is one replay",
    )
    consumer: str = Field(min_length=1, max_length=253, pattern=PLAIN, description="App id")
    subscription: str | None = Field(
        default=None, max_length=253, pattern=PLAIN, description="One of its subscriptions; whichever reads the type"
    )
    types: list[Text] = Field(
        default=[],
        max_length=200,
        description="orders.orderPlaced, orders.orderConfirmed.v1 or orders.*; none means every type",
    )
    since: AwareDatetime | None = Field(default=None, description="Happened then or later")
    until: AwareDatetime | None = Field(default=None, description="Happened before")
    correlation_id: Text | None = None
    ids: list[Text] = Field(default=[], max_length=1000, description="Of events; none means whichever")
    match: list[dict[str, Any]] = Field(
        default=[], max_length=64, description="Filters as an EventSubscription has them, but no CEL; all must hold"
    )
    rate_per_second: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="At most so many events a second"
    )
    by: str = Field(
        default="unknown", min_length=1, max_length=LONGEST_NAME, pattern=PLAIN, description="Who asks, for the audit"
    )

    def request(self) -> ReplayEvents:
        """The command that this body stands for."""
        return ReplayEvents(
            replay_id=self.replay_id or new_id(),
            consumer=self.consumer,
            subscription=self.subscription,
            types=tuple(self.types),
            since=self.since,
            until=self.until,
            correlation_id=self.correlation_id,
            rate_per_second=self.rate_per_second,
            ids=tuple(self.ids),
            match=tuple(self.match),
        )


@router.post("", status_code=202, summary="Send archived events again")
async def post_replay(
    body: ReplayBody,
    visitor: CurrentVisitor,
    service: CurrentService,
    database: CurrentDatabase,
    response: Response,
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Begin a replay; a dry run only counts (200). 422 where it cannot be carried out."""
    with http_errors(_STATUSES):
        if not dry_run:
            return await service.execute(replays.begin, Asked(body.request(), visitor.deciding(body.by)))
        async with database.connect(write=False) as connection:
            counts = await replays.preview(connection, body.request())
    response.status_code = HTTPStatus.OK
    return {"dryRun": True, "consumer": body.consumer, "matched": sum(counts.values()), "counts": counts}


@router.get("", summary="The latest replays", response_model=answers.Replays)
async def get_replays(database: CurrentDatabase, limit: Limit = 20) -> dict[str, Any]:
    """Answer the latest first."""
    async with database.connect(write=False) as connection:
        return {"replays": await replays.latest(connection, limit)}


@router.get("/{replay_id}", summary="One replay", response_model=answers.Replay, response_model_exclude_unset=True)
async def get_replay(replay_id: Text, database: CurrentDatabase) -> dict[str, Any]:
    """Answer its state, how many events it is about and how many are sent; 404 where there is none."""
    with http_errors(_STATUSES):
        async with database.connect(write=False) as connection:
            return await replays.one(connection, replay_id)


@router.post("/{replay_id}/cancel", summary="End it", response_model=answers.Replay, response_model_exclude_unset=True)
async def post_cancel(
    replay_id: Text, visitor: CurrentVisitor, service: CurrentService, by: By = "unknown"
) -> dict[str, Any]:
    """Send nothing more of it; one that has ended stays as it is. 404 where there is none."""
    with http_errors(_STATUSES):
        return await service.execute(replays.cancel, (replay_id, visitor.deciding(by)))
