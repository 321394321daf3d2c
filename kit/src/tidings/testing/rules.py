"""Which path of an app an event goes to: Dapr's routing rules, evaluated as daprd does."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tidings.errors import TidingsError


class NoVerdict(TidingsError):
    """A rule's expression failed on this event, or its result is no boolean: daprd gives the event up."""


def route(routes: dict[str, Any], event: dict[str, Any]) -> str | None:
    """Find the path of the first rule that is true, else the default; None where there is neither.

    `event` must have been read with `read`, so that numbers are what daprd's rules see.

    Raises:
        NoVerdict: A rule could not be evaluated.

    """
    for rule in routes.get("rules") or ():
        if not rule.get("match") or _true(rule["match"], event):
            return str(rule["path"])
    return routes.get("default") or None


def read(message: bytes) -> dict[str, Any]:
    """Decode an event as daprd does for its rules: every number is a double.

    Raises:
        ValueError: No JSON object.

    """
    event = json.loads(message, parse_int=float)
    if not isinstance(event, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  # to the caller it is one more way of not being an event
    return event


def _true(expression: str, event: dict[str, Any]) -> bool:
    result = _compiled(expression).eval(data={"event": event}).plain_value()
    if not isinstance(result, bool):
        raise NoVerdict(f"{expression}: {result}")
    return result


@cache
def _compiled(expression: str) -> Any:
    from cel_expr_python import cel  # type: ignore[import-untyped]  # noqa: PLC0415  # only needed where rules are

    return cel.NewEnv(variables={"event": cel.Type.DYN}).compile(expression)
