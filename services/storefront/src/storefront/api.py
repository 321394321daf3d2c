"""Allow-list of the requests that the page may send to the services. None of them changes prices or stocks."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel

from storefront.adapters.forwarding import Forwarder
from storefront.adapters.upstreams import Upstreams
from storefront.settings import StorefrontSettings
from tidings.fastapi import StreamPlace

OrderId = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$")]
Sku = Annotated[str, Path(max_length=60, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


def _forwarder(request: Request) -> Forwarder:
    forwarder: Forwarder = request.app.state.forwarder
    return forwarder


def _upstreams(request: Request) -> Upstreams:
    upstreams: Upstreams = request.app.state.upstreams
    return upstreams


def _settings(request: Request) -> StorefrontSettings:
    settings: StorefrontSettings = request.app.state.settings
    return settings


Forward = Annotated[Forwarder, Depends(_forwarder)]
To = Annotated[Upstreams, Depends(_upstreams)]
CurrentSettings = Annotated[StorefrontSettings, Depends(_settings)]


def require_board(settings: CurrentSettings) -> None:
    """Respond 404 if the board of all orders is disabled."""
    if not settings.board:
        raise HTTPException(HTTPStatus.NOT_FOUND, "the board of all orders is disabled (STOREFRONT_BOARD)")


router = APIRouter(prefix="/api")


class Shop(BaseModel):
    """Features of this storefront."""

    board: bool


@router.get("/shop", tags=["shop"], summary="Get the features of this storefront")
async def get_shop(settings: CurrentSettings) -> Shop:
    """Return the features that the page shows or hides."""
    return Shop(board=settings.board)


@router.get("/menu", tags=["menu"], summary="List the menu")
async def get_menu(request: Request, forward: Forward, to: To) -> Response:
    """Forward to menu."""
    return await forward.forward(request, to.menu, "/menu")


@router.get("/menu/{sku}", tags=["menu"], summary="Get a pizza")
async def get_item(sku: Sku, request: Request, forward: Forward, to: To) -> Response:
    """Forward to menu."""
    return await forward.forward(request, to.menu, f"/menu/{sku}")


@router.post("/orders", tags=["orders"], summary="Place an order")
async def place_order(request: Request, forward: Forward, to: To) -> Response:
    """Forward to orders; an `Idempotency-Key` makes retries safe."""
    return await forward.forward(request, to.orders, "/orders")


@router.get("/orders/{order_id}", tags=["orders"], summary="Get an order")
async def get_order(order_id: OrderId, request: Request, forward: Forward, to: To) -> Response:
    """Forward to orders."""
    return await forward.forward(request, to.orders, f"/orders/{order_id}")


@router.post("/orders/{order_id}/cancel", tags=["orders"], summary="Cancel an order")
async def cancel_order(order_id: OrderId, request: Request, forward: Forward, to: To) -> Response:
    """Forward to orders."""
    return await forward.forward(request, to.orders, f"/orders/{order_id}/cancel")


@router.get("/track", tags=["track"], summary="List the latest orders", dependencies=[Depends(require_board)])
async def list_tracked(
    request: Request, forward: Forward, to: To, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> Response:
    """Forward to tracking."""
    return await forward.forward(request, to.tracking, "/track", limit=limit)


@router.get("/totals", tags=["track"], summary="Get the totals of all orders", dependencies=[Depends(require_board)])
async def get_totals(request: Request, forward: Forward, to: To) -> Response:
    """Forward to tracking."""
    return await forward.forward(request, to.tracking, "/totals")


@router.get("/track/{order_id}", tags=["track"], summary="Get the progress of an order")
async def track(order_id: OrderId, request: Request, forward: Forward, to: To) -> Response:
    """Forward to tracking."""
    return await forward.forward(request, to.tracking, f"/track/{order_id}")


@router.get(
    "/track/{order_id}/stream", tags=["track"], summary="Stream the progress of an order", dependencies=[StreamPlace]
)
async def watch(order_id: OrderId, request: Request, forward: Forward, to: To) -> Response:
    """Forward tracking's server-sent events."""
    return await forward.stream(request, to.tracking, f"/track/{order_id}/stream")


@router.get(
    "/stream",
    tags=["track"],
    summary="Stream all orders",
    dependencies=[Depends(require_board), StreamPlace],
)
async def watch_all(request: Request, forward: Forward, to: To) -> Response:
    """Forward tracking's server-sent events."""
    return await forward.stream(request, to.tracking, "/stream")


@router.get("/{path:path}", include_in_schema=False)
async def not_found(path: str) -> None:
    """Respond 404 to any other request."""
    raise HTTPException(HTTPStatus.NOT_FOUND, f"/api/{path} does not exist; /openapi.json lists the API")
