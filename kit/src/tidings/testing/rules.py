"""Which path of an app an event goes to: Dapr's routing rules, evaluated as daprd does."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

from tidings.errors import TidingsError
from tidings.messages.envelope import as_deep_as_daprd


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
    try:
        with as_deep_as_daprd():
            event = json.loads(message, parse_int=float)
    except RecursionError as error:
        raise ValueError("nested deeper than Go reads") from error
    if not isinstance(event, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  # to the caller it is one more way of not being an event
    return event


def complaints(routes: dict[str, Any]) -> list[str]:
    """List the expressions that must not reach a sidecar: daprd dies of a malformed one, or hangs."""
    expressions = [rule["match"] for rule in routes.get("rules") or () if rule.get("match")]
    problems = [(expression, _cel().check(expression)) for expression in expressions]
    return [f"{expression}: {problem.message}" for expression, problem in problems if problem]


def _true(expression: str, event: dict[str, Any]) -> bool:
    result: bool | str = _cel().evaluate(expression, event)
    if isinstance(result, str):
        raise NoVerdict(f"{expression}: {result}")
    return result


def _cel() -> ModuleType:
    from tidings_plan import cel  # noqa: PLC0415 - a large library, which few tests need

    return cel
