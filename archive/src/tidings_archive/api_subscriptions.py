"""HTTP API for subscriptions: which ones are suspended; suspend and resume."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from tidings.fastapi import ClosedCamelModel, CurrentService
from tidings.outbox.table import SqlContext
from tidings_archive import access, audit_log
from tidings_archive.access import CurrentClient
from tidings_archive.api import Requester
from tidings_archive.suspensions import CurrentSuspensions

router = APIRouter(prefix="/subscriptions", tags=["subscriptions"], dependencies=[Depends(access.require_reader)])
Name = Annotated[str, Path(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]


class SuspensionBody(ClosedCamelModel):
    """Whether a subscription is suspended."""

    suspended: bool = Field(description="true: its events wait at the broker; false: it reads them")
    by: Requester = Field(default="unknown", description="Who asks, for the audit log")


class Suspended(BaseModel):
    """The suspended subscriptions."""

    suspended: list[str]


@router.get("", summary="List the suspended subscriptions")
async def get_suspended(suspensions: CurrentSuspensions) -> Suspended:
    """Return their names; 404 with the reason where the archive cannot suspend subscriptions."""
    return Suspended(suspended=sorted(await suspensions.names()))


@router.patch("/{name}", summary="Suspend or resume a subscription")
async def patch_subscription(
    name: Name, body: SuspensionBody, client: CurrentClient, service: CurrentService, suspensions: CurrentSuspensions
) -> Suspended:
    """Suspend or resume it, and return all suspended ones.

    404 if it does not exist, 409 if it must not be changed, 503 if it cannot be at the moment.
    """
    who = client.authorize_change(body.by)
    await suspensions.change(name, suspend=body.suspended)
    await service.execute(_record, (who, "suspended" if body.suspended else "resumed", f"subscription/{name}"))
    return Suspended(suspended=sorted(await suspensions.names()))


async def _record(entry: tuple[str, str, str], context: SqlContext) -> None:
    await audit_log.record(context.connection, context.now, *entry, detail="")
