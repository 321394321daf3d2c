"""The web page: files of this package, served as they are."""

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
"""Addresses that the page's own router knows."""
REVALIDATE = {"Cache-Control": "no-cache"}
"""File names carry no version: a browser keeps them and asks whether they have changed."""

HEADERS = REVALIDATE | {"Content-Security-Policy": PAGE_POLICY}

router = APIRouter(include_in_schema=False)


async def page() -> FileResponse:
    """Answer the page; its script shows the view that the address names."""
    return FileResponse(f"{STATIC}/index.html", headers=HEADERS)


for view in VIEWS:
    router.add_api_route(view, page, methods=["GET", "HEAD"])


@router.get("/{path:path}")
async def nothing(path: str) -> FileResponse:  # noqa: ARG001 - any other address
    """Answer the page, which says that there is nothing here."""
    return FileResponse(f"{STATIC}/index.html", HTTPStatus.NOT_FOUND, headers=HEADERS)


class Assets(StaticFiles):
    """The page's files."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Answer a file, or that the browser's copy is still good."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(REVALIDATE)
        return response
