"""Requests to addresses at which a tenant may answer, such as sidecars and archives."""

import asyncio
from pathlib import Path

import aiohttp

from tidings.web.answers import PLAIN


class InvalidToken(Exception):
    """A token cannot be read, or is no value of a header; the message continues "The token …"."""


def open_session(timeout: float) -> aiohttp.ClientSession:
    """Open a session without credentials.

    It keeps no cookies, which would pass from one tenant to another, and unpacks nothing, so that the bound on a
    response is one on what was received.
    """
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=PLAIN,
        auto_decompress=False,
    )


async def read_token(file: Path) -> str:
    """Return the token in a file of a mounted Secret, or an empty string if there is none.

    Raises:
        InvalidToken: It cannot be read, or cannot be sent in a header.

    """
    try:
        token = (await asyncio.to_thread(file.read_bytes)).strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InvalidToken(f"cannot be read from {file}: {error.strerror}") from error
    if not (token.isascii() and token.decode("ascii").isprintable()):
        raise InvalidToken(f"in {file} cannot be sent in a header: make it of printable ASCII characters")
    return token.decode("ascii")
