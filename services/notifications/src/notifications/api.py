"""The HTTP API of notifications."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path

from notifications import use_cases
from notifications.domain import Status, Template
from tidings.fastapi import CamelModel, CurrentService

router = APIRouter()
Id = Annotated[str, Path(min_length=1, max_length=200)]


class EmailView(CamelModel):
    """Status of an e-mail, without its address and content."""

    email_id: str
    order_id: str
    template: Template
    status: Status
    reason: str | None
    asked_at: datetime
    settled_at: datetime | None


@router.get("/emails/{email_id}", tags=["emails"], summary="Get the status of an e-mail")
async def email(email_id: Id, service: CurrentService) -> EmailView:
    """Return the status of an e-mail; 404 if it was never requested."""
    return EmailView.model_validate(await service.execute(use_cases.read_email, email_id))
