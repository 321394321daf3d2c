"""The web page: files of this package, served as they are, and the headers that keep it to itself."""

from __future__ import annotations

from http import HTTPStatus
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STATIC = str(files("storefront") / "static")
VIEWS = ("/", "/checkout", "/orders", "/orders/{order_id}", "/board")
"""Addresses that the page's own router knows."""
REVALIDATE = {"Cache-Control": "no-cache"}
"""File names carry no version: a browser keeps them and asks whether they have changed."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
SECURITY = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

router = APIRouter(include_in_schema=False)


async def page() -> FileResponse:
    """Answer the page; its script shows the view that the address names."""
    return FileResponse(f"{STATIC}/index.html", headers=REVALIDATE)


for view in VIEWS:
    router.add_api_route(view, page, methods=["GET", "HEAD"])


@router.get("/{path:path}")
async def nothing(path: str) -> FileResponse:  # noqa: ARG001 - any other address
    """Answer the page, which says that there is nothing here."""
    return FileResponse(f"{STATIC}/index.html", HTTPStatus.NOT_FOUND, headers=REVALIDATE)


class Assets(StaticFiles):
    """The page's files."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Answer a file, or that the browser's copy is still good."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(REVALIDATE)
        return response


class SecurityHeaders:
    """Adds the headers to every answer, streams and errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, with the headers."""

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY)
            await send(message)

        await self._app(scope, receive, secured if scope["type"] == "http" else send)
