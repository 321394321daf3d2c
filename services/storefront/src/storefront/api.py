"""What the page may ask of the services: these requests and no others. Prices and stocks are not changed from here."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel

from storefront.forwarding import Forwarder
from storefront.settings import StorefrontSettings
from storefront.upstreams import Upstreams
from tidings.fastapi import StreamPlace

OrderId = Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$")]
Sku = Annotated[str, Path(max_length=60, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


def _forwarder(request: Request) -> Forwarder:
    found: Forwarder = request.app.state.forwarder
    return found


def _upstreams(request: Request) -> Upstreams:
    found: Upstreams = request.app.state.upstreams
    return found


def _settings(request: Request) -> StorefrontSettings:
    found: StorefrontSettings = request.app.state.settings
    return found


Forward = Annotated[Forwarder, Depends(_forwarder)]
To = Annotated[Upstreams, Depends(_upstreams)]
Chosen = Annotated[StorefrontSettings, Depends(_settings)]


def with_board(settings: Chosen) -> None:
    """Keep the orders of others to themselves where there is no board."""
    if not settings.board:
        raise HTTPException(HTTPStatus.NOT_FOUND, "there is no board of all orders here (STOREFRONT_BOARD)")


router = APIRouter(prefix="/api")


class Shop(BaseModel):
    """What this storefront offers."""

    board: bool


@router.get("/shop", tags=["shop"], summary="What this storefront offers")
async def get_shop(settings: Chosen) -> Shop:
    """Answer what the page shows or hides."""
    return Shop(board=settings.board)


@router.get("/menu", tags=["menu"], summary="Everything on the menu")
async def get_menu(request: Request, forward: Forward, to: To) -> Response:
    """Ask menu."""
    return await forward.forward(request, to.menu, "/menu")


@router.get("/menu/{sku}", tags=["menu"], summary="One pizza")
async def get_item(sku: Sku, request: Request, forward: Forward, to: To) -> Response:
    """Ask menu."""
    return await forward.forward(request, to.menu, f"/menu/{sku}")


@router.post("/orders", tags=["orders"], summary="Place an order")
async def place_order(request: Request, forward: Forward, to: To) -> Response:
    """Ask orders; an `Idempotency-Key` makes it safe to ask again."""
    return await forward.forward(request, to.orders, "/orders")


@router.get("/orders/{order_id}", tags=["orders"], summary="Look at an order")
async def get_order(order_id: OrderId, request: Request, forward: Forward, to: To) -> Response:
    """Ask orders."""
    return await forward.forward(request, to.orders, f"/orders/{order_id}")


@router.post("/orders/{order_id}/cancel", tags=["orders"], summary="Cancel an order")
async def cancel_order(order_id: OrderId, request: Request, forward: Forward, to: To) -> Response:
    """Ask orders."""
    return await forward.forward(request, to.orders, f"/orders/{order_id}/cancel")


@router.get("/track", tags=["track"], summary="The latest orders", dependencies=[Depends(with_board)])
async def list_tracked(
    request: Request, forward: Forward, to: To, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> Response:
    """Ask tracking."""
    return await forward.forward(request, to.tracking, "/track", limit=limit)


@router.get("/totals", tags=["track"], summary="How many orders there are", dependencies=[Depends(with_board)])
async def get_totals(request: Request, forward: Forward, to: To) -> Response:
    """Ask tracking."""
    return await forward.forward(request, to.tracking, "/totals")


@router.get("/track/{order_id}", tags=["track"], summary="Where an order is")
async def track(order_id: OrderId, request: Request, forward: Forward, to: To) -> Response:
    """Ask tracking."""
    return await forward.forward(request, to.tracking, f"/track/{order_id}")


@router.get(
    "/track/{order_id}/stream", tags=["track"], summary="Where an order is, as it changes", dependencies=[StreamPlace]
)
async def watch(order_id: OrderId, request: Request, forward: Forward, to: To) -> Response:
    """Pass tracking's server-sent events through."""
    return await forward.stream(request, to.tracking, f"/track/{order_id}/stream")


@router.get(
    "/stream", tags=["track"], summary="Every change of every order", dependencies=[Depends(with_board), StreamPlace]
)
async def watch_all(request: Request, forward: Forward, to: To) -> Response:
    """Pass tracking's server-sent events through."""
    return await forward.stream(request, to.tracking, "/stream")


@router.get("/{path:path}", include_in_schema=False)
async def nothing(path: str) -> None:
    """Answer that there is no such thing to ask for."""
    raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no /api/{path}; /openapi.json lists what there is")
