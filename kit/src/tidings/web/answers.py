"""Reads HTTP responses up to a size limit."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Protocol

from tidings.errors import TidingsError

PLAIN = {"accept-encoding": "identity"}
"""Headers that ask for an uncompressed response: a compressed one may grow a thousandfold when it is decoded."""


class AnswerTooLarge(TidingsError):
    """A response exceeds the size limit, or is compressed, so that its size is unknown."""


class Answer(Protocol):
    """A response whose body has not been read yet, such as httpx2's with `stream=True`."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Response headers."""
        ...

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Iterate over the body as it arrives."""
        ...

    async def aclose(self) -> None:
        """Release the connection."""
        ...


async def read_bounded(answer: Answer, most: int) -> bytes:
    """Read a body of at most `most` bytes and release the connection.

    Raises:
        AnswerTooLarge: The body is larger, or compressed although the request did not allow that.

    """
    try:
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise AnswerTooLarge("the answer is compressed")
        return await collect(answer.aiter_bytes(), most)
    finally:
        await answer.aclose()


async def collect(chunks: AsyncIterable[bytes], most: int) -> bytes:
    """Collect a body of at most `most` bytes from the chunks of any client.

    Raises:
        AnswerTooLarge: The body is larger.

    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            raise AnswerTooLarge(f"the answer has more than {most} bytes")
    return bytes(body)
