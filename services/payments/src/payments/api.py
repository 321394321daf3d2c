"""HTTP API of payments. Read-only: money moves by events."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path

from payments import use_cases
from payments.domain import Account, Movement, Refusal, Status
from tidings.fastapi import CamelModel, CurrentService

router = APIRouter()
Id = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]


class PaymentView(CamelModel):
    """The payment of an order; the amount is null until the command to take it has arrived."""

    payment_id: str
    order_id: str
    status: Status
    amount_cents: int | None
    refusal: Refusal | None
    changed_at: datetime
    currency: Literal["EUR"] = "EUR"


class LedgerView(CamelModel):
    """Totals of the ledger in cents; `balanced` is true if accounts and movements agree."""

    authorised_cents: int
    settled_cents: int
    voided_cents: int
    refunded_cents: int
    open_cents: int
    revenue_cents: int
    accounts: dict[Account, int]
    payments: dict[Status, int]
    balanced: bool
    currency: Literal["EUR"] = "EUR"


@router.get("/payments/{order_id}", tags=["payments"], summary="Get the payment of an order")
async def get_payment(order_id: Id, service: CurrentService) -> PaymentView:
    """Return the payment; 404 if the order is unknown."""
    payment = await service.execute(use_cases.find, order_id)
    if payment is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no payment for order {order_id}")
    return PaymentView.model_validate(payment)


@router.get("/ledger", tags=["ledger"], summary="Get the totals of the ledger")
async def get_ledger(service: CurrentService) -> LedgerView:
    """Return totals by movement and account, and the number of payments by status."""
    totals, counts = await service.execute(use_cases.add_up, None)
    moved = totals.movements
    return LedgerView(
        authorised_cents=moved[Movement.AUTHORISED],
        settled_cents=moved[Movement.SETTLED],
        voided_cents=moved[Movement.VOIDED],
        refunded_cents=moved[Movement.REFUNDED],
        open_cents=totals.open_cents,
        revenue_cents=totals.revenue_cents,
        accounts=dict(totals.accounts),
        payments=counts,
        balanced=totals.balanced,
    )
