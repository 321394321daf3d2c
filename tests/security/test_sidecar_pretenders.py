"""Attacks on the operator by what answers in place of a sidecar or an archive, and by tokens that cannot be sent."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from tidings_cli.testing.fixtures import Serve, ports, serve
from tidings_operator.archive import ArchiveError, Archives
from tidings_operator.cache import Cache
from tidings_operator.observing import TIMEOUT, Observer, Unreachable
from tidings_operator.settings import Settings
from tidings_operator.untrusted import open_session

__all__ = ["ports", "serve"]
POD = {"metadata": {"name": "kitchen-1", "namespace": "evil"}, "status": {"podIP": "127.0.0.1"}}
BOMB = gzip.compress(b'{"subscriptions": [' + b" " * 50_000_000 + b"]}")


async def ask(**settings: Any) -> Any:
    client: Any = None  # pods are not listed here
    observer = Observer(Settings(**settings), Cache(lambda _: None), client, lambda: True)
    async with open_session(TIMEOUT) as session:
        return await observer._ask(session, POD)


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip", b"gzip, gzip", b"deflate", b"br", b"zstd"])
async def test_a_compressed_answer_is_not_unpacked(serve: Serve, coding: bytes) -> None:
    """The bound on a response must not depend on how a library unpacks one."""
    accepted: list[bytes] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            accepted.append(dict(scope["headers"]).get(b"accept-encoding", b""))
            headers = [(b"content-encoding", coding)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": BOMB})

    served = await serve(answer)
    with pytest.raises(Unreachable, match="is no sidecar"):
        await ask(sidecar_port=served.port)
    async with Archives(f"http://127.0.0.1:{served.port}") as archives:
        with pytest.raises(ArchiveError):
            await archives.of("evil").skipped("r-1")
    assert accepted == [b"identity"] * 2


@pytest.mark.parametrize("token", [b"a\nb", b"a\r\nx-admin: 1", b"\xff\xfe", "tökén".encode(), b"a\0b", None])
async def test_a_token_that_cannot_be_sent_is_reported_and_stops_no_other_query(
    tmp_path: Path, token: bytes | None
) -> None:
    """An exception of any other kind ends the queries of the sidecars of all namespaces."""
    if token is None:
        (tmp_path / "evil").mkdir()
    else:
        (tmp_path / "evil").write_bytes(token)
    with pytest.raises(Unreachable, match=r"token of namespace evil .*cannot be"):
        await ask(sidecar_tokens=str(tmp_path), sidecar_port=1)
    async with Archives("http://127.0.0.1:1", str(tmp_path)) as archives:
        with pytest.raises(ArchiveError, match=r"the token .*cannot be"):
            await archives.of("evil").skipped("r-1")


ANSWERS = {
    "deep": b'{"subscriptions":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep and open": b'{"id":' + b'{"a":' * 150_000,
    "half a character": b'{"subscriptions":[{"pubsubname":"\\ud800","topic":"t"}]}',
    "no number": b'{"id": NaN}',
    "a mark of byte order": b"\xef\xbb\xbf{}",
    "UTF-16": '{"id":"x"}'.encode("utf-16"),
    "no text": b'{"subscriptions":[{"pubsubname":"\xff","topic":"t"}],"x\xff":1}',
    "a control character": b'{"id":"\x1b[2J"}',
    "null": b"null",
    "empty": b"",
}


@pytest.mark.parametrize("body", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_that_is_hard_to_read_is_one_of_no_sidecar_and_of_no_archive(serve: Serve, body: bytes) -> None:
    """An exception of any other kind ends the queries of the sidecars of all namespaces."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

    served = await serve(answer)
    with pytest.raises(Unreachable, match="is no sidecar") as refused:
        await ask(sidecar_port=served.port)
    assert str(refused.value).isprintable()
    async with Archives(f"http://127.0.0.1:{served.port}") as archives:
        with pytest.raises(ArchiveError):
            await archives.of("evil").skipped("r-1")
