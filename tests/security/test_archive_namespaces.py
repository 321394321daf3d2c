"""Attacks between namespaces: each has an archive of its own, where tokens of other namespaces have no rights."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from pydantic import SecretStr
from tests.support.newsroom import Newsroom

from tidings_archive.settings import ArchiveSettings

BOXED, SHELF = "kitchen.pizzaBoxed.v1", {"failuresubscription": "pickup-pizza-boxed"}
READS = ("/events", "/events/e-1", "/counts", "/deadletters", "/deadletters/1", "/deadletters/outcomes?batch=b",
         "/replays", "/replays/r-1", "/audit", "/console/live", "/console/map")  # fmt: skip
CHANGES: dict[str, dict[str, str]] = {
    "/deadletters/1/replay": {},
    "/deadletters/1/discard": {"reason": "eve"},
    "/deadletters/redrive": {},
    "/replays": {"consumer": "pickup"},
    "/replays/r-1/cancel": {},
}


@pytest_asyncio.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[tuple[Newsroom, Newsroom]]:
    """Yield the archives of two namespaces, each with a dead letter and tokens of its own."""
    async with AsyncExitStack() as stack:
        opened = []
        for namespace in ("pizza", "bank"):
            folder = tmp_path / namespace
            folder.mkdir()
            room = await stack.enter_async_context(Newsroom.opened(folder))
            operator, viewer = SecretStr(f"{namespace}-op"), SecretStr(f"{namespace}-view")
            room.settings = ArchiveSettings(namespace=namespace, map=room.map, token=operator, viewer_token=viewer)
            await room.died("pickup", BOXED, f"only {namespace} knows", **SHELF)
            opened.append(room)
        yield opened[0], opened[1]


def client(room: Newsroom, token: str, **headers: str) -> httpx2.AsyncClient:
    url = room.url.removesuffix("/console")
    return httpx2.AsyncClient(
        base_url=url, timeout=60, trust_env=False, headers={"Authorization": f"Bearer {token}", **headers}
    )


@pytest.mark.parametrize("token", ["pizza-op", "pizza-view", "bank", "bank-op pizza-op", "pizza-op,bank-op"])
async def test_a_token_of_another_namespace_reads_and_changes_nothing(
    rooms: tuple[Newsroom, Newsroom], token: str
) -> None:
    _, bank = rooms
    async with client(bank, token, **{"X-Namespace": "pizza", "X-Forwarded-User": "ann"}) as http:
        for path in READS:
            answer = await http.get(path, params={"namespace": "pizza"} if "?" not in path else None)
            assert (answer.status_code, "only bank knows" in answer.text) == (401, False), path
        for path, body in CHANGES.items():
            for query in ("", "?dryRun=true", "?namespace=pizza"):
                answer = await http.post(f"{path}{query}", json={"by": "eve", **body})
                assert (answer.status_code, "only bank knows" in answer.text) == (401, False), (path, query)
        assert (await http.get("/console/me")).json()["role"] == "none"
    async with client(bank, "bank-view") as http:
        assert (await http.get("/audit")).json()["entries"] == []
        assert (await http.get("/deadletters/1")).json()["state"] == "open"
    assert bank.broker.events("replay.pickup") == []


async def test_a_token_sees_and_replays_its_own_namespace_only(rooms: tuple[Newsroom, Newsroom]) -> None:
    pizza, bank = rooms
    async with client(pizza, "pizza-op") as http:
        [letter] = (await http.get("/deadletters", params={"state": "any"})).json()["deadLetters"]
        assert letter["reason"] == "only pizza knows"
        assert (await http.post("/deadletters/redrive", json={"replayId": "r-1"})).status_code == 202
        assert (await http.get("/console/me")).json()["namespace"] == "pizza"
    await pizza.sent("pickup", 1)
    assert bank.broker.events("replay.pickup") == []
    async with client(bank, "bank-op") as http:
        assert (await http.get("/replays/r-1")).status_code == 404
        assert (await http.post("/replays/r-1/cancel", json={})).status_code == 404
        assert (await http.get("/audit")).json()["entries"] == []


async def test_a_viewer_of_its_own_namespace_may_count_and_send_nothing(rooms: tuple[Newsroom, Newsroom]) -> None:
    pizza, _ = rooms
    async with client(pizza, "pizza-view") as http:
        counted = await http.post("/deadletters/redrive?dryRun=true", json={})
        assert (counted.status_code, counted.json()["matched"]) == (200, 1)
        for path, body in CHANGES.items():
            assert (await http.post(path, json=body)).status_code == 401, path
    assert pizza.broker.events("replay.pickup") == []
