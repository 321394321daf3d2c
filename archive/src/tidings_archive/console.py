"""The console: a page for those who run the system. Files of this package, served as they are, and what they ask for.

It holds no rights of its own: it does what the archive's API lets its visitor do (`tidings_archive.access`).
"""

from __future__ import annotations

import time
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from tidings.web.guard import PAGE_POLICY
from tidings_archive import deadletters, searching
from tidings_archive.access import CurrentVisitor, Role, reader
from tidings_archive.api import CurrentDatabase
from tidings_archive.settings import ArchiveSettings, settings
from tidings_archive.tables import events

STATIC = str(files("tidings_archive") / "static")
VIEWS = ("/console", "/console/events", "/console/dead-letters", "/console/replays", "/console/versions")
"""Addresses that the page's own router knows."""
WINDOW = 60.0
"""Seconds over which what happens is counted."""

# File names carry no version: a browser keeps them and asks whether they have changed.
HEADERS = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}

router = APIRouter(tags=["console"])
Chosen = Annotated[ArchiveSettings, Depends(settings)]


class Me(BaseModel):
    """What the archive knows of its visitor."""

    name: str | None = Field(description="As an authenticating proxy says; null: whoever decides says it themselves")
    role: Role = Field(description="operator: may replay and discard; viewer: may read; none: may do nothing")
    namespace: str = Field(description="Namespace that this archive serves; empty outside of Kubernetes")
    missing: str | None = Field(description="Why this visitor may change nothing; null: they may")
    token: bool = Field(description="Whether the archive asks for a token")
    hint: str = Field(description="How to get it")


class Live(BaseModel):
    """What goes on now."""

    window: float = Field(description="Seconds that are counted")
    events: dict[str, int] = Field(description="Events that happened in them, by type and version")
    dead_letters: dict[str, int] = Field(serialization_alias="deadLetters", description="Open ones, by app")


@router.get("/console/me", summary="Who asks, and what they may do")
async def get_me(visitor: CurrentVisitor, chosen: Chosen) -> Me:
    """Answer who this is by the proxy's word, and what is missing for them to change something."""
    return Me(
        name=visitor.name,
        role=visitor.role,
        namespace=chosen.namespace,
        missing=visitor.missing,
        token=chosen.token is not None,
        hint=chosen.token_hint,
    )


@router.get("/console/live", dependencies=[Depends(reader)], summary="What goes on now")
async def get_live(database: CurrentDatabase) -> Live:
    """Answer the counts of the last minute, by the archive's clock, and what waits for a decision."""
    async with database.connect(write=False) as connection:
        lately = await searching.counts(connection, events.c.happened >= time.time() - WINDOW)
        return Live(window=WINDOW, events=lately, dead_letters=await deadletters.open_by_app(connection))


@router.get(
    "/console/map", dependencies=[Depends(reader)], summary="The system: types, who reads them, what is deprecated"
)
async def get_map(chosen: Chosen) -> Response:
    """Answer the file that ARCHIVE_MAP names, as `tidings render -o map` writes it; 404 where there is none."""
    if chosen.map is None:
        detail = "no map is known here: write one with `tidings render -o map > map.json`, and name it in ARCHIVE_MAP"
        raise HTTPException(HTTPStatus.NOT_FOUND, detail)
    if not chosen.map.is_file():
        detail = f"there is no file {chosen.map}: ARCHIVE_MAP names it, and `tidings render -o map` writes it"
        raise HTTPException(HTTPStatus.NOT_FOUND, detail)
    return FileResponse(chosen.map, media_type="application/json", headers={"Cache-Control": "no-cache"})


async def page() -> FileResponse:
    """Answer the page; its script shows the view that the address names."""
    return FileResponse(f"{STATIC}/index.html", headers=HEADERS)


for view in VIEWS:
    router.add_api_route(view, page, methods=["GET", "HEAD"], include_in_schema=False)


class Assets(StaticFiles):
    """The page's files."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer a file, or that the browser's copy is still good."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def install(app: FastAPI) -> None:
    """Add the console to an application."""
    app.include_router(router)
    app.mount("/console/assets", Assets())
