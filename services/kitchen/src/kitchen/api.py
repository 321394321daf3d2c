"""The kitchen's HTTP API."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from kitchen import use_cases
from kitchen.domain import Arrival, Fulfilment, NotClockedIn, Role, Roster, Status, Step, WrongStep
from kitchen.use_cases import Board, StepDone
from tidings.fastapi import ClosedCamelModel, CurrentService

router = APIRouter()
ERRORS: dict[type[Exception], HTTPStatus] = {WrongStep: HTTPStatus.CONFLICT, NotClockedIn: HTTPStatus.CONFLICT}
Id = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]
Ingredient = Annotated[str, Path(max_length=60, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="Such as smoked-tofu")]


class ClockIn(ClosedCamelModel):
    """Request of a member of staff who clocks in."""

    name: str = Field(min_length=1, max_length=100)
    role: Role = "cook"


class Check(ClosedCamelModel):
    """The result of a quality check."""

    passed: bool = True


class MemberView(ClosedCamelModel):
    """A member of staff at work."""

    member_id: str
    name: str
    role: Role
    since: datetime


class LineView(ClosedCamelModel):
    """Quantity of one kind of pizza."""

    sku: str
    quantity: int


class TicketView(ClosedCamelModel):
    """The ticket of an order."""

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


class BoardView(ClosedCamelModel):
    """Staff, missing ingredients and tickets in work, oldest first."""

    open: bool
    crew: list[MemberView]
    missing_ingredients: list[str]
    tickets: list[TicketView]


class IngredientView(ClosedCamelModel):
    """An ingredient and the pizzas whose known recipes need it."""

    ingredient: str
    available: bool
    skus: list[str]


@router.post("/staff/{member_id}/clock-in", tags=["staff"], summary="Clock a member of staff in")
async def clock_in(member_id: Id, body: ClockIn, service: CurrentService) -> list[MemberView]:
    """Return the staff now at work."""
    return _crew(await service.execute(use_cases.clock_in, Arrival(member_id, body.name, body.role)))


@router.post("/staff/{member_id}/clock-out", tags=["staff"], summary="Clock a member of staff out")
async def clock_out(member_id: Id, service: CurrentService) -> list[MemberView]:
    """Return the staff now at work; 409 if the member is not clocked in."""
    return _crew(await service.execute(use_cases.clock_out, member_id))


@router.get("/board", tags=["tickets"], summary="List staff, missing ingredients and tickets in work")
async def board(service: CurrentService, limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> BoardView:
    """Return the board with the oldest `limit` tickets in work."""
    current: Board = await service.execute(use_cases.read_board, limit)
    return BoardView(
        open=current.roster.staffed,
        crew=_crew(current.roster),
        missing_ingredients=current.missing,
        tickets=[TicketView.model_validate(ticket) for ticket in current.tickets],
    )


@router.get("/tickets/{order_id}", tags=["tickets"], summary="Get a ticket")
async def ticket(order_id: Id, service: CurrentService) -> TicketView:
    """Return the ticket; 404 if there is none."""
    return TicketView.model_validate(await service.execute(use_cases.read_ticket, order_id))


@router.post("/tickets/{order_id}/steps/{step}", tags=["tickets"], summary="Record a step done by hand")
async def do_step(order_id: Id, step: Step, service: CurrentService, body: Check | None = None) -> TicketView:
    """Return the ticket after the step; 404 if there is no ticket, 409 if another step is due.

    Only the step `checked` reads the body: `{"passed": false}` sends the pizzas back.
    """
    done = StepDone(order_id, step, body.passed if body else True)
    return TicketView.model_validate(await service.execute(use_cases.do_step, done))


@router.post("/ingredients/{name}/ran-out", tags=["ingredients"], summary="Report that an ingredient has run out")
async def ran_out(name: Ingredient, service: CurrentService) -> IngredientView:
    """Return the pizzas that cannot be made without it."""
    skus = await service.execute(use_cases.ran_out, name)
    return IngredientView(ingredient=name, available=False, skus=skus)


@router.post("/ingredients/{name}/delivered", tags=["ingredients"], summary="Report the delivery of an ingredient")
async def delivered(name: Ingredient, service: CurrentService) -> IngredientView:
    """Return the pizzas that need it."""
    skus = await service.execute(use_cases.delivered, name)
    return IngredientView(ingredient=name, available=True, skus=skus)


def _crew(roster: Roster) -> list[MemberView]:
    return [
        MemberView(member_id=member_id, name=member.name, role=member.role, since=member.since)
        for member_id, member in sorted(roster.members.items())
    ]
