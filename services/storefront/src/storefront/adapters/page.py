"""The web page, served from static files of this package."""

from __future__ import annotations

from http import HTTPStatus
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from tidings.web.guard import PAGE_POLICY

STATIC = str(files("storefront") / "static")
VIEWS = ("/", "/checkout", "/orders", "/orders/{order_id}", "/board")
"""Paths handled by the page's client-side router."""
REVALIDATE = {"Cache-Control": "no-cache"}
"""File names have no version, so browsers have to revalidate cached files."""

HEADERS = REVALIDATE | {"Content-Security-Policy": PAGE_POLICY}

router = APIRouter(include_in_schema=False)


async def page() -> FileResponse:
    """Return the page; its script shows the view for the path."""
    return FileResponse(f"{STATIC}/index.html", headers=HEADERS)


for view in VIEWS:
    router.add_api_route(view, page, methods=["GET", "HEAD"])


@router.get("/{path:path}")
async def not_found(path: str) -> FileResponse:  # noqa: ARG001 - matches any other path
    """Return the page with status 404."""
    return FileResponse(f"{STATIC}/index.html", HTTPStatus.NOT_FOUND, headers=HEADERS)


class Assets(StaticFiles):
    """Static files of the page."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Return a file, or 304 if the browser's copy is current."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(REVALIDATE)
        return response
