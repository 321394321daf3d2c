"""Web pages of services: static files without a build step, and views that a script selects by path."""

from collections.abc import Collection
from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from tidings.web.guard import PAGE_POLICY

REVALIDATE = {"Cache-Control": "no-cache"}
"""File names have no version, so browsers must revalidate cached files."""


class Assets(StaticFiles):
    """Static files of a page, and those that all pages share."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory=directory, packages=[("tidings.web", "static")])

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Return a file, or 304 if the browser's copy is current."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(REVALIDATE)
        return response


def page_router(directory: str, views: Collection[str]) -> APIRouter:
    """Return a router that answers the path of each view with the page `index.html`."""
    router = APIRouter(include_in_schema=False)

    async def page() -> FileResponse:
        return page_response(directory)

    for view in views:
        router.add_api_route(view, page, methods=["GET", "HEAD"])
    return router


def page_response(directory: str, status: HTTPStatus = HTTPStatus.OK) -> FileResponse:
    """Return the page `index.html`; its script selects the view by path."""
    headers = REVALIDATE | {"Content-Security-Policy": PAGE_POLICY}
    return FileResponse(f"{directory}/index.html", status, headers=headers)
