"""Limits the number of concurrent server-sent event streams, each of which holds a connection open."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.exceptions import HTTPException


class StreamLimit:
    """Limit on open streams.

    Args:
        most: Maximum number of open streams.
        per_address: Maximum number of open streams per client address.

    """

    def __init__(self, most: int, per_address: int) -> None:
        self._most, self._per_address = most, per_address
        self._open: Counter[str] = Counter()

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """Count a stream as open within the context.

        Raises:
            HTTPException: 429, the address has reached its limit; 503, the overall limit is reached.

        """
        if self._open[address] >= self._per_address:
            detail = f"at most {self._per_address} streams may be open from one address; close one, or retry later"
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": "5"})
        if self._open.total() >= self._most:
            detail = f"all {self._most} streams are in use; retry later, or poll"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "5"})
        self._open[address] += 1
        try:
            yield
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
