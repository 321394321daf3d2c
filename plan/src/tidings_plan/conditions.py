"""Conditions of Dapr rules: derive them from filters and routes, validate them and test them on sample events."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tidings_plan import cel, filters
from tidings_plan.celsubset import Problem
from tidings_plan.channels import Channel
from tidings_plan.resources.eventtype import EventType
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.model import Resource
from tidings_plan.resources.source_location import Path, spell
from tidings_plan.resources.subscription import EventSubscription, Filter, Selection

MAX_SHOWN = 80
"""Characters of an example that a finding shows."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A Dapr route: a condition (empty for always) and a path (None for the default path of the topic)."""

    match: str
    path: str | None
    terms: frozenset[str] = frozenset()
    """Conditions that must all match. Rules with more terms are more specific."""


@lru_cache(maxsize=1024)
def rules_of(selection: Selection) -> tuple[Rule, ...]:
    """Return the rules that the selection contributes to each of its topics, in order."""
    routes = selection.spec.routes
    common = filters.terms(selection.events.filters)
    routed = [_rule([*common, filters.embeddable(route.match)], route.path) for route in routes.rules]
    return (*routed, _rule(common, routes.default))


def check_shared(subscription: EventSubscription) -> list[Finding]:
    """Return all findings about the routes and the circuit breaker."""
    spec = subscription.spec
    findings: list[Finding] = []
    for index, route in enumerate(spec.routes.rules):
        findings += _rejected(subscription, cel.check(route.match), ("spec", "routes", "rules", index, "match"))
    if spec.delivery.circuit_breaker:
        at: Path = ("spec", "delivery", "circuitBreaker", "trip")
        findings += _rejected(subscription, cel.check_trip(spec.delivery.circuit_breaker.trip), at)
    return findings


def check(selection: Selection) -> list[Finding]:
    """Return all findings about a selection's filters, alone and together with the routes."""
    at = (*selection.at, "filters")
    findings = check_filters(selection.subscription, selection.events.filters, at)
    if findings or check_shared(selection.subscription):  # a malformed route has a finding of its own
        return findings
    wholes = [rule.match for rule in rules_of(selection) if rule.match]
    return [finding for match in wholes for finding in _rejected(selection.subscription, cel.check(match), at)]


def check_filters(resource: Resource[Any], written: Sequence[Filter], at: Path) -> list[Finding]:
    """Return the findings about a filter list: a wrong number of operators, or rejected CEL."""
    findings = [
        finding for index, condition in enumerate(written) for finding in _shape(resource, condition, (*at, index))
    ]
    for expression, path in filters.raw_cel(written, at):
        findings += _rejected(resource, cel.check(expression), path)
    return findings


def probe(selection: Selection, event_type: EventType, channels: list[Channel]) -> list[Finding]:
    """Evaluate the conditions on the published examples and on minimal events that satisfy the schema.

    An evaluation error is worse than a mismatch: daprd then skips all further rules and dead-letters the event, even if
    it matches another subscription of the app.
    """
    matches = [rule.match for rule in rules_of(selection) if rule.match]
    if not any(filters.raw_cel(selection.events.filters)) and not selection.spec.routes.rules:
        return []
    if check_shared(selection.subscription):
        return []  # a malformed route cannot be evaluated
    majors = {channel.major for channel in channels}
    events = [
        {
            "specversion": "1.0",
            "id": "0",
            "source": "probe",
            "type": event_type.spec.type,
            "version": version.major,
            "time": "2026-01-01T00:00:00Z",
            "datacontenttype": "application/json",
            "data": data,
        }
        for version in event_type.spec.versions
        if version.major in majors
        for data in [
            sample
            for example in version.examples
            for sample in (example, _required_part(version.schema or {}, copy.deepcopy(example)))
        ]
        or [{}]
    ]
    for match in matches:
        for event in events:
            if failure := cel.failure(match, event):
                return [_may_fail(selection, failure, event)]
    return []


def _rule(expressions: list[str], path: str | None) -> Rule:
    parts = list(dict.fromkeys(expressions))
    return Rule(filters.conjunction(parts).strip(), path, frozenset(parts))


def _shape(resource: Resource[Any], condition: Filter, at: Path) -> Iterator[Finding]:
    operators = filters.operators(condition)
    if len(operators) != 1:
        message = f"{spell(at)} has {' and '.join(operators) or 'no operator'}: expected exactly one"
        fix = "Use one of exact, prefix, suffix, all, any, not and cel. All filters of a list must match."
        yield resource.finding("error", "filter-operators", message, fix, at=at)
    for name, parts in (("all", condition.all), ("any", condition.any)):
        for index, part in enumerate(parts or ()):
            yield from _shape(resource, part, (*at, name, index))
    if condition.not_ is not None:
        yield from _shape(resource, condition.not_, (*at, "not"))


def _rejected(resource: Resource[Any], problem: Problem | None, at: Path) -> list[Finding]:
    if problem is None:
        return []
    place = resource.origin.inside(at, problem.line, problem.column)
    message = f"{spell(at)} is not valid CEL: {problem.message}"
    return [resource.finding("error", "malformed-cel", message, problem.fix, at=place)]


def _required_part(schema: Any, data: Any) -> Any:
    """Return an example reduced to the fields that the schema requires directly."""
    keywords = schema if isinstance(schema, dict) else {}
    if isinstance(data, dict):
        properties, required = keywords.get("properties"), keywords.get("required")
        known = properties if isinstance(properties, dict) else {}
        names = required if isinstance(required, list) else []
        return {name: _required_part(known.get(name), value) for name, value in data.items() if name in names}
    if isinstance(data, list):
        return [_required_part(keywords.get("items"), item) for item in data]
    return data


def _may_fail(selection: Selection, failure: str, event: dict[str, Any]) -> Finding:
    strict = selection.spec.enforcement == "Strict"
    raw = [at for _, at in filters.raw_cel(selection.events.filters, (*selection.at, "filters"))]
    at = raw[0] if raw else ("spec", "routes", "rules", 0, "match")
    data = str(event["data"])
    shown = data if len(data) <= MAX_SHOWN else f"{data[:MAX_SHOWN]}..."
    message = (
        f"A condition fails on {event['type']} v{event['version']} with data {shown}: {failure}. "
        "daprd dead-letters such an event"
    )
    fix = "Guard the field: has(event.data.field) && event.data.field == ..., or use exact, prefix or suffix."
    return selection.subscription.finding("error" if strict else "warning", "cel-may-fail", message, fix, at=at)
