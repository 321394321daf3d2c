"""The kitchen's HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from kitchen import requests
from kitchen.domain import Arrival, Fulfilment, NotClockedIn, Role, Roster, Status, Step, WrongStep
from kitchen.requests import Board, StepDone, UnknownTicket
from tidings.fastapi import CurrentService

router = APIRouter()
Id = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]
Ingredient = Annotated[str, Path(max_length=60, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="Such as smoked-tofu")]


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True, extra="forbid")


class ClockIn(_Model):
    """Who comes to work."""

    name: str = Field(min_length=1, max_length=100)
    role: Role = "cook"


class Check(_Model):
    """The result of a quality check."""

    passed: bool = True


class MemberView(_Model):
    """Somebody at work."""

    member_id: str
    name: str
    role: Role
    since: datetime


class LineView(_Model):
    """So many pizzas of one kind."""

    sku: str
    quantity: int


class TicketView(_Model):
    """An order in the kitchen."""

    order_id: str
    status: Status
    next_step: Step | None
    fulfilment: Fulfilment
    lines: list[LineView]
    pizzas: int
    checks: int
    refusal: str | None
    confirmed_at: datetime | None
    changed_at: datetime


class BoardView(_Model):
    """Everything that is going on, the oldest ticket first."""

    open: bool
    crew: list[MemberView]
    missing_ingredients: list[str]
    tickets: list[TicketView]


class IngredientView(_Model):
    """An ingredient, and the pizzas that need it as far as the kitchen knows their recipes."""

    ingredient: str
    available: bool
    skus: list[str]


@router.post("/staff/{member_id}/clock-in", tags=["staff"], summary="Somebody comes to work")
async def clock_in(member_id: Id, body: ClockIn, service: CurrentService) -> list[MemberView]:
    """Answer everybody who is there now."""
    return _crew(await service.execute(requests.clock_in, Arrival(member_id, body.name, body.role)))


@router.post("/staff/{member_id}/clock-out", tags=["staff"], summary="Somebody goes home")
async def clock_out(member_id: Id, service: CurrentService) -> list[MemberView]:
    """Answer everybody who is there now; 409 for somebody who is not there."""
    with _refusals():
        return _crew(await service.execute(requests.clock_out, member_id))


@router.get("/board", tags=["tickets"], summary="Who is there, what has run out, and the tickets in work")
async def board(service: CurrentService, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> BoardView:
    """Answer the oldest `limit` tickets in work."""
    found: Board = await service.execute(requests.read_board, limit)
    return BoardView(
        open=found.roster.staffed,
        crew=_crew(found.roster),
        missing_ingredients=found.missing,
        tickets=[TicketView.model_validate(ticket) for ticket in found.tickets],
    )


@router.get("/tickets/{order_id}", tags=["tickets"], summary="One order in the kitchen")
async def ticket(order_id: Id, service: CurrentService) -> TicketView:
    """Answer the ticket; 404 where the kitchen has none."""
    with _refusals():
        return TicketView.model_validate(await service.execute(requests.read_ticket, order_id))


@router.post("/tickets/{order_id}/steps/{step}", tags=["tickets"], summary="A step has been done by hand")
async def do_step(order_id: Id, step: Step, service: CurrentService, body: Check | None = None) -> TicketView:
    """Answer the ticket after the step; 404 without a ticket, 409 where another step comes next.

    Only `checked` looks at the body: `{"passed": false}` sends the pizzas back.
    """
    done = StepDone(order_id, step, body.passed if body else True)
    with _refusals():
        return TicketView.model_validate(await service.execute(requests.do_step, done))


@router.post("/ingredients/{name}/ran-out", tags=["ingredients"], summary="Nothing is left of an ingredient")
async def ran_out(name: Ingredient, service: CurrentService) -> IngredientView:
    """Answer which pizzas cannot be made now."""
    skus = await service.execute(requests.ran_out, name)
    return IngredientView(ingredient=name, available=False, skus=skus)


@router.post("/ingredients/{name}/delivered", tags=["ingredients"], summary="An ingredient is there again")
async def delivered(name: Ingredient, service: CurrentService) -> IngredientView:
    """Answer which pizzas need it."""
    skus = await service.execute(requests.delivered, name)
    return IngredientView(ingredient=name, available=True, skus=skus)


@contextmanager
def _refusals() -> Iterator[None]:
    """Answer what the kitchen refuses."""
    try:
        yield
    except UnknownTicket as error:
        raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from error
    except (WrongStep, NotClockedIn) as error:
        raise HTTPException(HTTPStatus.CONFLICT, str(error)) from error


def _crew(roster: Roster) -> list[MemberView]:
    return [
        MemberView(member_id=member_id, name=member.name, role=member.role, since=member.since)
        for member_id, member in sorted(roster.members.items())
    ]
