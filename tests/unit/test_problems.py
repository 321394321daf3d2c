"""Every service answers wrong requests with the same problem details."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated

import httpx2
import pytest
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from tidings import Event, Service, StateContext, event
from tidings.fastapi import CurrentService, create_app
from tidings.testing import MemorySidecar, lifespan

router = APIRouter()


class Greeting(BaseModel):
    times: Annotated[int, Field(ge=1)]


@event("shop.greeted", subject="name")
class Greeted(Event):
    name: str
    text: str


@router.post("/greet/{name}")
async def greet(name: str, greeting: Greeting, service: CurrentService) -> None:
    if name == "nobody":
        raise HTTPException(404, "there is no nobody", headers={"Warning": "199"})
    greeted = Greeted(name=name, text=name * greeting.times)

    async def publish(_message: object, context: object) -> None:
        context.publish(greeted)  # type: ignore[attr-defined]

    await service.execute(publish, None)


class ShopError(Exception):
    pass


class SoldOut(ShopError):
    pass


class Closed(ShopError):
    pass


class Busy(ShopError):
    after = 4.2


ERRORS: dict[type[Exception], HTTPStatus] = {
    ShopError: HTTPStatus.CONFLICT,
    Closed: HTTPStatus.SERVICE_UNAVAILABLE,
    Busy: HTTPStatus.SERVICE_UNAVAILABLE,
}


@router.post("/raise/{name}")
async def fail(name: str) -> None:
    raise {"sold-out": SoldOut, "closed": Closed, "busy": Busy}[name](f"the shop is {name}")


@router.get("/greetings/{name}")
async def find(name: str, service: CurrentService) -> str:
    async def read(_message: object, context: StateContext) -> str:
        return await context.require(str, name, f"nobody has greeted {name}")

    return await service.execute(read, None)


@pytest.fixture
async def sidecar() -> MemorySidecar:
    return MemorySidecar("shop")


@pytest.fixture
async def client(sidecar: MemorySidecar) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(Service("shop", sidecar=sidecar), [router], errors=ERRORS)
    async with lifespan(app), httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as client:
        yield client


async def test_what_a_route_raises(client: httpx2.AsyncClient):
    answer = await client.post("/greet/nobody", json={"times": 1})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json() == {"title": "Not Found", "status": 404, "detail": "there is no nobody"}
    assert answer.headers["warning"] == "199"


@pytest.mark.parametrize(
    ("name", "status", "after"), [("sold-out", 409, None), ("closed", 503, "1"), ("busy", 503, "5")]
)
async def test_an_error_of_the_application_has_the_status_of_its_nearest_class(
    client: httpx2.AsyncClient, name: str, status: int, after: str | None
):
    answer = await client.post(f"/raise/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    title = HTTPStatus(status).phrase
    assert answer.json() == {"title": title, "status": status, "detail": f"the shop is {name}"}
    assert answer.headers.get("retry-after") == after


async def test_a_document_that_a_request_requires_but_does_not_exist(client: httpx2.AsyncClient):
    answer = await client.get("/greetings/ann")
    assert answer.json() == {"title": "Not Found", "status": 404, "detail": "nobody has greeted ann"}


@pytest.mark.parametrize(
    ("body", "field"), [(b'{"times": 0}', "body.times"), (b"{}", "body.times"), (b'{"times"', "body.8")]
)
async def test_a_request_that_does_not_fit_names_the_field(client: httpx2.AsyncClient, body: bytes, field: str):
    answer = await client.post("/greet/ann", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["title"]) == (422, HTTPStatus(422).phrase)
    assert answer.json()["errors"][0]["field"] == field
    assert answer.json()["detail"].startswith(f"{field}: ")


async def test_an_unknown_path_is_a_problem_too(client: httpx2.AsyncClient):
    answer = await client.get("/nowhere")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_sidecar_that_is_down(client: httpx2.AsyncClient, sidecar: MemorySidecar):
    await client.post("/greet/ann", json={"times": 1})
    sidecar.down = True
    answer = await client.post("/greet/ann", json={"times": 1})
    sidecar.down = False
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "down" in answer.json()["detail"]


@pytest.mark.parametrize(("name", "problem"), [("a" * 17_000, "longer than 16384 characters"), ("a%C2%85b", "U+0085")])
async def test_a_subject_that_no_event_can_have(client: httpx2.AsyncClient, name: str, problem: str):
    answer = await client.post(f"/greet/{name}", json={"times": 1})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert "subject" in answer.json()["detail"]
    assert problem in answer.json()["detail"]


async def test_an_event_that_is_too_large(client: httpx2.AsyncClient):
    answer = await client.post("/greet/ann", json={"times": 400_000})
    assert answer.status_code == 413
    assert "publish a reference instead" in answer.json()["detail"]
