"""The web page, served from static files of this package."""

from http import HTTPStatus
from importlib.resources import files

from fastapi.responses import FileResponse

from tidings.web.pages import page_response, page_router

STATIC = str(files("storefront") / "static")
router = page_router(STATIC, ["/", "/checkout", "/orders", "/orders/{order_id}", "/board"])


@router.get("/{path:path}")
async def not_found(path: str) -> FileResponse:  # noqa: ARG001 - matches any other path
    """Return the page with status 404."""
    return page_response(STATIC, HTTPStatus.NOT_FOUND)
