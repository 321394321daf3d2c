"""The menu's HTTP API."""

from http import HTTPStatus
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path
from pydantic import Field

from menu import use_cases
from menu.domain import IngredientMissing, Menu, Recipe, UnknownItem
from menu.use_cases import Price
from tidings.fastapi import ClosedCamelModel, CurrentService

router = APIRouter(tags=["menu"])
ERRORS: dict[type[Exception], HTTPStatus] = {UnknownItem: HTTPStatus.NOT_FOUND, IngredientMissing: HTTPStatus.CONFLICT}
Name = r"^[a-z0-9]+(-[a-z0-9]+)*$"
Sku = Annotated[str, Path(max_length=60, pattern=Name, description="Such as margherita")]
Cents = Annotated[int, Field(ge=1, le=100_000, strict=True, description="Cents of a euro")]
Names = Annotated[tuple[Annotated[str, Field(max_length=60, pattern=Name)], ...], Field(max_length=50)]


class RecipeBody(ClosedCamelModel):
    """Request to add or change a pizza."""

    name: str = Field(min_length=1, max_length=100)
    description: str = Field(default="", max_length=1000)
    price_cents: Cents
    ingredients: Names = Field(min_length=1)
    allergens: Names = ()
    image_hint: str = Field(default="", max_length=200)


class PriceBody(ClosedCamelModel):
    """Request to change a price."""

    price_cents: Cents


class ItemView(ClosedCamelModel):
    """A pizza on the menu; `missingIngredients` may explain why it is not available."""

    sku: str
    name: str
    description: str
    price_cents: int
    currency: str = "EUR"
    ingredients: list[str]
    allergens: list[str]
    image_hint: str
    available: bool
    missing_ingredients: list[str]


class MenuView(ClosedCamelModel):
    """All pizzas in the order of their addition."""

    items: list[ItemView]


@router.get("/menu", summary="List the menu")
async def get_menu(service: CurrentService) -> MenuView:
    """Return all pizzas, including unavailable ones."""
    menu = await service.execute(use_cases.read_menu, None)
    return MenuView(items=[_view(menu, sku) for sku in menu.items])


@router.get("/menu/{sku}", summary="Get a pizza")
async def get_item(sku: Sku, service: CurrentService) -> ItemView:
    """Return the pizza; 404 if it is not on the menu."""
    return _view(await service.execute(use_cases.read_menu, None), sku)


@router.put("/menu/{sku}", summary="Add or change a pizza")
async def put_item(sku: Sku, body: RecipeBody, service: CurrentService) -> ItemView:
    """Return the pizza after the change."""
    return _view(await service.execute(use_cases.put_recipe, Recipe(sku=sku, **dict(body))), sku)


@router.put("/menu/{sku}/price", summary="Change a price")
async def put_price(sku: Sku, body: PriceBody, service: CurrentService) -> ItemView:
    """Return the pizza after the change; 404 if it is not on the menu."""
    return _view(await service.execute(use_cases.set_price, Price(sku, body.price_cents)), sku)


@router.post("/menu/{sku}/sold-out", summary="Mark a pizza as sold out")
async def post_sold_out(sku: Sku, service: CurrentService) -> ItemView:
    """Return the pizza after the change; 404 if it is not on the menu."""
    return _view(await service.execute(use_cases.sold_out, sku), sku)


@router.post("/menu/{sku}/restocked", summary="Mark a pizza as available again")
async def post_restocked(sku: Sku, service: CurrentService) -> ItemView:
    """Return the pizza after the change; 404 if it is not on the menu, 409 while an ingredient is missing."""
    return _view(await service.execute(use_cases.restocked, sku), sku)


def _view(menu: Menu, sku: str) -> ItemView:
    recipe = msgspec.structs.asdict(menu.item(sku).recipe)
    return ItemView(**recipe, available=menu.available(sku), missing_ingredients=menu.missing(sku))
