"""Attacks on the archive's token: on its way in, and on the operator that sends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import SecretStr, ValidationError
from tests.support.newsroom import Newsroom

from tidings.testing.asgi import App
from tidings_archive.settings import ArchiveSettings
from tidings_cli.testing.fixtures import Serve, ports, serve
from tidings_operator import archive as client
from tidings_operator.archive import ArchiveError, Archives

__all__ = ["ports", "serve"]
HINT = "kubectl get secret x"
CHANGES = ("/replays", "/replays/r-1/cancel", "/deadletters/1/replay", "/deadletters/1/discard", "/deadletters/redrive")


@pytest_asyncio.fixture
async def newsroom(tmp_path: Path) -> AsyncIterator[Newsroom]:
    async with Newsroom.opened(tmp_path) as room:
        room.settings = ArchiveSettings(token=SecretStr("s3cret"), token_hint=HINT)
        yield room


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("query", ["", "?dryRun=false", "?dryRun=true&dryRun=false", "?dryRun=yes", "?dryrun=true"])
async def test_without_the_token_nothing_of_a_body_is_read(newsroom: Newsroom, path: str, query: str) -> None:
    """Bodies are read before FastAPI's dependencies: a check among those comes too late."""
    received: list[str] = []
    answers: list[Any] = []

    async def receive() -> Any:
        received.append("asked for a part of the body")
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": path,
             "raw_path": path.encode(), "query_string": query[1:].encode(), "root_path": "",
             "headers": [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer s3cre")],
             "client": ("10.0.0.9", 1), "server": ("127.0.0.1", 80)}  # fmt: skip
    await newsroom.app(scope, receive, send)
    assert answers[0]["status"] == 401
    assert received == []


@pytest.mark.parametrize(
    "query", ["?dryRun=true&dryRun=false", "?dryRun=false&dryRun=true", "?dryRun=true", "?dryRun=1"]
)
async def test_nothing_is_changed_under_the_pretence_of_a_dry_run(newsroom: Newsroom, query: str) -> None:
    await newsroom.died("pickup", "kitchen.pizzaBoxed.v1", "no shelf", failuresubscription="pickup-pizza-boxed")
    async with httpx2.AsyncClient(base_url=newsroom.url.removesuffix("/console"), timeout=60, trust_env=False) as http:
        for path, body in (
            ("/deadletters/1/discard", {"by": "eve", "reason": "mine"}),
            ("/deadletters/1/replay", {"by": "eve"}),
            ("/deadletters/redrive", {"by": "eve"}),
            ("/replays", {"consumer": "pickup", "by": "eve"}),
            ("/replays/r-1/cancel", {}),
        ):
            await http.post(f"{path}{query}", json=body)
        entries = (await http.get("/audit")).json()["entries"]
        letter = (await http.get("/deadletters/1")).json()
    assert entries == []
    assert letter["state"] == "open"
    assert newsroom.broker.events("replay.pickup") == []


async def test_a_client_without_the_token_learns_how_to_get_it_and_not_what_it_is(newsroom: Newsroom) -> None:
    async with httpx2.AsyncClient(base_url=newsroom.url.removesuffix("/console"), timeout=60, trust_env=False) as http:
        refused = await http.post("/replays", json={"consumer": "pickup"})
        me = await http.get("/console/me")
    assert refused.status_code == 401
    assert HINT in refused.json()["detail"]
    assert me.json()["hint"] == HINT
    assert "s3cret" not in refused.text + me.text


@pytest.mark.parametrize("token", [None, ""])
def test_an_empty_secret_does_not_open_the_archive(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    if token is not None:
        monkeypatch.setenv("ARCHIVE_TOKEN", token)
    monkeypatch.setenv("ARCHIVE_TOKEN_HINT", HINT)
    with pytest.raises(ValidationError, match="ARCHIVE_TOKEN is empty"):
        ArchiveSettings()


# -- the operator, which sends it -------------------------------------------------------------------------------------


def answering(status: int, body: bytes, asked: list[dict[bytes, bytes]], *headers: tuple[bytes, bytes]) -> App:
    """Answer in place of the archive."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        asked.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return answer


async def test_the_operators_token_follows_no_redirect(serve: Serve, tmp_path: Path) -> None:
    asked: list[dict[bytes, bytes]] = []
    elsewhere: list[dict[bytes, bytes]] = []
    other = await serve(answering(200, b"{}", elsewhere))
    moved = (b"location", f"http://127.0.0.1:{other.port}/replays".encode())
    for status in (301, 302, 303, 307, 308):
        served = await serve(answering(status, b"", asked, moved))
        file = tmp_path / "token"
        file.write_text("s3cret\n")
        async with Archives(f"http://127.0.0.1:{served.port}", str(tmp_path)) as archives:
            archive = archives.of("token")
            with pytest.raises(ArchiveError, match=f"answers {status}"):
                await archive.begin({})
    assert {item[b"authorization"] for item in asked} == {b"Bearer s3cret"}
    assert elsewhere == []


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"x" * 2_000, "more than 1000 bytes"),
        (200, b"[" * 900, "is not an archive"),
        (200, b"[]", "is not an archive"),
        (200, b"\xff", "is not an archive"),
        (500, b"\x1b[2J", r"\\x1b\[2J"),
        (204, b"", "answers 204"),
    ],
    ids=["without end", "nested", "a list", "no text", "controls", "nothing"],
)
async def test_what_pretends_to_be_the_archive_does_not_harm_the_operator(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, said: str
) -> None:
    monkeypatch.setattr(client, "LARGEST", 1000)
    served = await serve(answering(status, body, []))
    async with Archives(f"http://127.0.0.1:{served.port}") as archives:
        archive = archives.of("pizza")
        with pytest.raises(ArchiveError, match=said):
            await archive.begin({})


async def test_a_late_or_changed_token_is_sent_and_a_missing_one_is_reported(serve: Serve, tmp_path: Path) -> None:
    asked: list[dict[bytes, bytes]] = []
    served = await serve(answering(401, b"", asked))
    file = tmp_path / "token"
    async with Archives(f"http://127.0.0.1:{served.port}", str(tmp_path)) as archives:
        archive = archives.of("token")
        with pytest.raises(ArchiveError, match=str(file)):
            await archive.begin({})
        for token in ("first", "second"):
            file.write_text(token)
            with pytest.raises(ArchiveError):
                await archive.begin({})
    assert [item.get(b"authorization") for item in asked] == [None, b"Bearer first", b"Bearer second"]
