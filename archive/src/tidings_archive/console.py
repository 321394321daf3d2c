"""The console: a page for operators of the system, made of static files and the endpoints that they use.

The page has no rights of its own: its user may do what the archive's API allows (`tidings_archive.access`).
"""

import time
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException
from pydantic import BaseModel, Field
from starlette.responses import Response

from tidings.web.pages import Assets, page_router
from tidings_archive import consumers, deadletters, event_queries
from tidings_archive.access import CurrentClient, Role, require_reader
from tidings_archive.api import CurrentDatabase
from tidings_archive.attribution import MAP_ERRORS, decode_subscriptions
from tidings_archive.settings import ArchiveSettings, settings
from tidings_archive.tables import events

STATIC = str(files("tidings_archive") / "static")
VIEWS = (
    "/console",
    "/console/subscriptions",
    "/console/events",
    "/console/dead-letters",
    "/console/replays",
    "/console/versions",
    "/console/notices",
    "/console/audit",
)
"""Paths that the page's router handles."""
WINDOW = 60.0
"""Seconds over which events are counted."""

router = APIRouter(tags=["console"])
Chosen = Annotated[ArchiveSettings, Depends(settings)]


class Me(BaseModel):
    """Identity and rights of the client."""

    name: str | None = Field(description="Name from an authenticating proxy; null: users enter their name")
    role: Role = Field(description="operator: may replay and discard; viewer: may read; none: no rights")
    namespace: str = Field(description="Namespace that this archive serves; empty outside of Kubernetes")
    missing: str | None = Field(description="Why the client may not change anything; null: it may")
    token: bool = Field(description="Whether the archive asks for a token")
    personal: bool = Field(description="Whether the client may read personal data in plain text")
    hint: str = Field(description="How to get the token")


class Live(BaseModel):
    """Current activity."""

    window: float = Field(description="Length of the period, in seconds")
    events: dict[str, int] = Field(description="Events in the period, by type and version")
    dead_letters: dict[str, int] = Field(serialization_alias="deadLetters", description="Open dead letters, by app")
    waiting: dict[str, int] | None = Field(
        description="Events that wait at the broker, by app, where any do; null: not measured (see ARCHIVE_LAG)"
    )


@router.get("/console/me", summary="Get the client's identity and rights")
async def get_me(client: CurrentClient, chosen: Chosen) -> Me:
    """Return the client's name and role, and what it lacks to make changes."""
    return Me(
        name=client.name,
        role=client.role,
        namespace=chosen.namespace,
        missing=client.missing,
        token=chosen.token is not None,
        personal=client.reads_personal,
        hint=chosen.token_hint,
    )


@router.get("/console/live", dependencies=[Depends(require_reader)], summary="Get current activity")
async def get_live(database: CurrentDatabase, chosen: Chosen) -> Live:
    """Return the events of the last minute, by the archive's clock, the open dead letters, and the consumers' lag."""
    async with database.connect(write=False) as connection:
        recent = await event_queries.count_by_type(connection, events.c.happened >= time.time() - WINDOW)
        failed = await deadletters.count_open_by_app(connection)
    return Live(window=WINDOW, events=recent, dead_letters=failed, waiting=await consumers.read_lag(chosen.lag))


@router.get(
    "/console/map",
    dependencies=[Depends(require_reader)],
    summary="Get the system map: types, readers, deprecations",
)
def get_map(chosen: Chosen) -> Response:
    """Return the file that ARCHIVE_MAP names, written by `tidings render -o map`; 404 if there is none."""
    if chosen.map is None:
        detail = "no map is configured: write one with `tidings render -o map > map.json`, and name it in ARCHIVE_MAP"
        raise HTTPException(HTTPStatus.NOT_FOUND, detail)
    try:
        drawn = chosen.map.read_bytes()
        decode_subscriptions(drawn)
    except MAP_ERRORS as error:
        detail = f"ARCHIVE_MAP={chosen.map} cannot be read: {error}. Write it with `tidings render -o map`"
        raise HTTPException(HTTPStatus.NOT_FOUND, detail) from error
    return Response(drawn, media_type="application/json", headers={"Cache-Control": "no-cache"})


def install(app: FastAPI) -> None:
    """Add the console to an application."""
    app.include_router(router)
    app.include_router(page_router(STATIC, VIEWS))
    app.mount("/console/assets", Assets(STATIC))
