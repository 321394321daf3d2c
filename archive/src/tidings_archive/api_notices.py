"""The archive's HTTP API for notices to owners: the operator sends them, and people read them."""

from http import HTTPStatus
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, HTTPException
from pydantic import Field

from tidings.fastapi import ClosedCamelModel, CurrentService
from tidings_archive import access, notices, responses
from tidings_archive.access import CurrentClient
from tidings_archive.api import CurrentDatabase, Limit
from tidings_archive.events import (
    IncompatibleChangeProposed,
    Notice,
    RemovalApproached,
    SubscriptionFailed,
    VersionDeprecated,
)

router = APIRouter(prefix="/notices", tags=["notices"], dependencies=[Depends(access.require_reader)])
KINDS: dict[str, type[Notice]] = {
    "tidings.versionDeprecated": VersionDeprecated,
    "tidings.removalApproached": RemovalApproached,
    "tidings.incompatibleChangeProposed": IncompatibleChangeProposed,
    "tidings.subscriptionFailed": SubscriptionFailed,
}


class NoticeBody(ClosedCamelModel):
    """A notice."""

    type: Literal[
        "tidings.versionDeprecated",
        "tidings.removalApproached",
        "tidings.incompatibleChangeProposed",
        "tidings.subscriptionFailed",
    ]
    data: Annotated[dict[str, Any], Field(description="As in the JSON Schema of version v1 of that event type")]


@router.post("", summary="Notify owners", response_model=responses.Notified)
async def post_notice(body: NoticeBody, client: CurrentClient, service: CurrentService) -> dict[str, bool]:
    """Publish it and send it to the webhook, unless the same matter was notified within the silence period."""
    client.authorize_change("")
    try:
        notice = msgspec.convert(body.data, KINDS[body.type])
    except (msgspec.ValidationError, RecursionError) as error:
        raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"data: {error}") from error
    return {"published": await service.execute(notices.notify, notice)}


@router.get("", summary="The latest notices", response_model=responses.Notices)
async def get_notices(database: CurrentDatabase, limit: Limit = 20) -> dict[str, Any]:
    """Answer the latest first, one entry for each matter."""
    async with database.connect(write=False) as connection:
        return {"notices": await notices.latest(connection, limit)}
