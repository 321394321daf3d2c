"""How many may watch at once: a stream of server-sent events holds a connection for as long as its client likes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.exceptions import HTTPException


class StreamLimit:
    """Places for streams.

    Args:
        most: How many there are in all.
        each: How many of them one address may hold.

    """

    def __init__(self, most: int, each: int) -> None:
        self._most, self._each = most, each
        self._open: Counter[str] = Counter()

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """Hold a place.

        Raises:
            HTTPException: 429, the address holds as many as it may; 503, all are taken.

        """
        if self._open[address] >= self._each:
            detail = f"at most {self._each} streams may be open from one address; close one, or ask again later"
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": "5"})
        if self._open.total() >= self._most:
            detail = f"all {self._most} streams are taken; ask again later, or poll"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "5"})
        self._open[address] += 1
        try:
            yield
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
