"""Loyalty's HTTP API. It answers from what loyalty knows itself: also while the SaaS is down."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from loyalty import use_cases
from loyalty.provider import Provider, State
from loyalty.use_cases import UnknownMember
from tidings.fastapi import CurrentService

router = APIRouter()
Id = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]


def current_provider(request: Request) -> Provider:
    """The provider that the service was put together with."""
    found: Provider = request.app.state.provider
    return found


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class MemberView(_Model):
    """What a customer has, and what is on its way."""

    customer_id: str
    balance: int
    points_waiting: int
    changed_at: datetime


class BreakerView(_Model):
    """Whether calls to the SaaS are made; `triesAgainIn` is in seconds."""

    state: State
    failures: int
    tries_again_in: float


class QueueView(_Model):
    """What this replica has yet to do. `depth` counts gifts that wait, and for milliseconds facts on their way out."""

    depth: int
    breaker: BreakerView


@router.get("/members/{customer_id}", tags=["members"], summary="What a customer has")
async def member(customer_id: Id, service: CurrentService) -> MemberView:
    """Answer the balance as of the latest points given; 404 for who has none and none on their way."""
    try:
        return MemberView.model_validate(await service.execute(use_cases.read_member, customer_id))
    except UnknownMember as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from error


@router.get("/queue", tags=["queue"], summary="What waits for the SaaS, and whether it is being called")
async def queue(service: CurrentService, provider: Annotated[Provider, Depends(current_provider)]) -> QueueView:
    """Answer for the replica that is asked."""
    health = provider.health
    breaker = BreakerView(state=health.breaker, failures=health.failures, tries_again_in=health.tries_again_in)
    return QueueView(depth=service.outbox.depth, breaker=breaker)
