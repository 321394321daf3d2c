"""Durations as Go and Dapr write them: `500ms`, `1m30s`, `2h`."""

import re
from functools import lru_cache

PATTERN = r"^([0-9]{1,5}(\.[0-9]{1,3})?h|[0-9]{1,6}(\.[0-9]{1,3})?m|[0-9]{1,8}(\.[0-9]{1,3})?(s|ms)){1,4}\Z"
"""Limited so that every duration fits Go's 64-bit nanoseconds: four parts of at most eleven years."""
MAX_LENGTH = 48
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@lru_cache(maxsize=1024)
def seconds(text: str) -> float:
    """Parse a duration and return its seconds.

    Raises:
        ValueError: The text is not a duration.

    """
    if len(text) > MAX_LENGTH or not re.match(PATTERN, text):
        raise ValueError(f"{text[:MAX_LENGTH]!r} is not a duration: write 500ms, 30s, 1m30s or 2h")
    return round(sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)), 6)


def go(length: float) -> str:
    """Format seconds as a Go duration: whole seconds if possible, otherwise milliseconds."""
    return f"{int(length)}s" if length == int(length) else f"{round(length * 1000)}ms"
