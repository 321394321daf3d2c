"""Answers of programs that tenants run: read within bounds, and never followed to another address."""

import aiohttp


class TooLargeError(ValueError):
    """An answer is larger than anything that was asked for."""


async def bounded(content: aiohttp.StreamReader, most: int) -> bytes:
    """Return a whole answer.

    Raises:
        TooLargeError: It has more than `most` bytes.

    """
    body = bytearray()
    async for chunk in content.iter_any():
        body += chunk
        if len(body) > most:
            raise TooLargeError(f"it answers with more than {most} bytes")
    return bytes(body)
