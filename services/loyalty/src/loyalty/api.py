"""Loyalty's HTTP API. Responses come from loyalty's own state, so they do not depend on the SaaS."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from loyalty import use_cases
from loyalty.domain import Provider, State
from tidings.fastapi import CamelModel, CurrentService

router = APIRouter()
Id = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]


def current_provider(request: Request) -> Provider:
    """Return the provider of the application."""
    provider: Provider = request.app.state.provider
    return provider


class MemberView(CamelModel):
    """Points of a customer: balance and pending points."""

    customer_id: str
    balance: int
    points_waiting: int
    changed_at: datetime


class BreakerView(CamelModel):
    """State of the circuit breaker for the SaaS; `triesAgainIn` is in seconds."""

    state: State
    failures: int
    tries_again_in: float


class QueueView(CamelModel):
    """Backlog of this replica. `depth` counts pending awards, and briefly also events about to be published."""

    depth: int
    breaker: BreakerView


@router.get("/members/{customer_id}", tags=["members"], summary="Get the points of a customer")
async def member(customer_id: Id, service: CurrentService) -> MemberView:
    """Return the balance as of the latest award; 404 if the customer has neither points nor pending points."""
    return MemberView.model_validate(await service.execute(use_cases.read_member, customer_id))


@router.get("/queue", tags=["queue"], summary="Get the backlog and the state of the circuit breaker")
async def queue(service: CurrentService, provider: Annotated[Provider, Depends(current_provider)]) -> QueueView:
    """Return the backlog of the replica that handles this request."""
    health = provider.health
    breaker = BreakerView(state=health.breaker, failures=health.failures, tries_again_in=health.tries_again_in)
    return QueueView(depth=service.outbox.depth, breaker=breaker)
