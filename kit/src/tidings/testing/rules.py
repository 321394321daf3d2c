"""Evaluates Dapr's routing rules as daprd does."""

import json
from types import ModuleType
from typing import Any

from tidings.errors import TidingsError
from tidings.messages.envelope import as_deep_as_daprd


class NoVerdict(TidingsError):
    """A rule's expression failed on this event, or its result is not a boolean: daprd drops the event."""


def route(routes: dict[str, Any], event: dict[str, Any]) -> str | None:
    """Return the path of the first matching rule, else the default path, or None.

    `event` must come from `read`, so that numbers have the type that daprd's rules see.

    Raises:
        NoVerdict: A rule could not be evaluated.

    """
    for rule in routes.get("rules") or ():
        verdict: bool | str = _cel().evaluate(rule["match"], event) if rule.get("match") else True
        if isinstance(verdict, str):
            raise NoVerdict(f"{rule['match']}: {verdict}")
        if verdict:
            return str(rule["path"])
    return routes.get("default") or None


def read(message: bytes) -> dict[str, Any]:
    """Decode an event as daprd does for its rules, with every number as a double.

    Raises:
        ValueError: The message is not a JSON object.

    """
    try:
        with as_deep_as_daprd():
            event = json.loads(message, parse_int=float)
    except RecursionError as error:
        raise ValueError("nested deeper than Go's limit") from error
    if not isinstance(event, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  # callers handle all malformed events alike
    return event


def validation_errors(routes: dict[str, Any]) -> list[str]:
    """List malformed expressions, which would crash or hang daprd."""
    expressions = [rule["match"] for rule in routes.get("rules") or () if rule.get("match")]
    problems = [(expression, _cel().check(expression)) for expression in expressions]
    return [f"{expression}: {problem.message}" for expression, problem in problems if problem]


def _cel() -> ModuleType:
    from tidings_plan import cel  # noqa: PLC0415 - a large library that few tests need

    return cel
