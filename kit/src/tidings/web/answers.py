"""Answers of others, of which nobody knows how large they are."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Protocol

from tidings.errors import TidingsError

PLAIN = {"accept-encoding": "identity"}
"""Headers that ask for an answer which is as large as it looks: a compressed one may become a thousand times larger."""


class AnswerTooLarge(TidingsError):
    """An answer is larger than it may be, or compressed, so that nobody knows."""


class Answer(Protocol):
    """The answer of an HTTP client that has not read it yet, such as httpx2's with `stream=True`."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers."""
        ...

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Its body as it arrives."""
        ...

    async def aclose(self) -> None:
        """Let go of the connection."""
        ...


async def read_bounded(answer: Answer, most: int) -> bytes:
    """Read a body of at most `most` bytes, and let go of the connection.

    Raises:
        AnswerTooLarge: It has more, or it is compressed although nobody asked for that.

    """
    try:
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise AnswerTooLarge("the answer is compressed")
        return await collect(answer.aiter_bytes(), most)
    finally:
        await answer.aclose()


async def collect(chunks: AsyncIterable[bytes], most: int) -> bytes:
    """Collect a body of at most `most` bytes, from any client.

    Raises:
        AnswerTooLarge: It has more.

    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            raise AnswerTooLarge(f"the answer has more than {most} bytes")
    return bytes(body)
