"""HTTP API for erasing a person."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from tidings.fastapi import ClosedCamelModel, CurrentService
from tidings_archive import access, forgetting
from tidings_archive.access import CurrentClient
from tidings_archive.api import PLAIN, Requester

router = APIRouter(prefix="/subjects", tags=["subjects"], dependencies=[Depends(access.require_reader)])


class ForgetBody(ClosedCamelModel):
    """Person to erase. This cannot be undone."""

    subject: Annotated[str, Field(min_length=1, max_length=1024, pattern=PLAIN, description="The person's pseudonym")]
    by: Requester = Field(default="unknown", description="Who asks, for the audit")


class Forgotten(BaseModel):
    """The person's pseudonym, and whether there was a key to destroy."""

    subject: str
    existed: bool


@router.post("/forget", summary="Forget a person")
async def post_forget(body: ForgetBody, client: CurrentClient, service: CurrentService) -> Forgotten:
    """Destroy a person's key irreversibly and publish `tidings.subjectForgotten`; 409 without a key store."""
    by = client.authorize_change(body.by)
    return Forgotten(subject=body.subject, existed=await forgetting.forget(body.subject, by, service))
