"""A subscription's filters and routes as the conditions of its Dapr rules, checked, and probed with real data."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tidings.plan import cel, filters
from tidings.plan.celsubset import Problem
from tidings.plan.channels import Channel
from tidings.resources.eventtype import EventType
from tidings.resources.findings import Finding
from tidings.resources.model import Resource
from tidings.resources.origin import Path, spell
from tidings.resources.subscription import EventSubscription, Filter


@dataclass(frozen=True, slots=True)
class Rule:
    """A Dapr route: a condition ("" for always) and the path, None for the default path of the topic."""

    match: str
    path: str | None
    terms: frozenset[str] = frozenset()
    """The conditions that must all hold: more of them is more specific."""


@lru_cache(maxsize=1024)
def rules_of(subscription: EventSubscription) -> tuple[Rule, ...]:
    """Return what the subscription adds to the routes of each of its topics, in order."""
    routes = subscription.spec.routes
    wanted = [term.cel for term in filters.terms(subscription.spec.filters)]
    found = [_rule([*wanted, filters.written(route.match)], route.path) for route in routes.rules]
    return (*found, _rule(wanted, routes.default))


def check(subscription: EventSubscription) -> list[Finding]:
    """Return every reason why a filter, a route or a circuit breaker may not be rendered."""
    spec = subscription.spec
    findings = check_filters(subscription, spec.filters, ("spec", "filters"))
    for place, route in enumerate(spec.routes.rules):
        findings += _refused(subscription, cel.check(route.match), ("spec", "routes", "rules", place, "match"))
    if spec.delivery.circuit_breaker:
        at: Path = ("spec", "delivery", "circuitBreaker", "trip")
        findings += _refused(subscription, cel.check_trip(spec.delivery.circuit_breaker.trip), at)
    return findings or _whole(subscription)


def check_filters(resource: Resource[Any], written: Sequence[Filter], at: Path) -> list[Finding]:
    """Return what is wrong with a list of filters: not one operator each, or CEL that is refused."""
    findings = [found for place, each in enumerate(written) for found in _shape(resource, each, (*at, place))]
    for expression, place in filters.raw_cel(written, at):
        findings += _refused(resource, cel.check(expression), place)
    return findings


def probe(subscription: EventSubscription, event_type: EventType, channels: list[Channel]) -> list[Finding]:
    """Try the conditions on the published examples, and on the least that the schema promises.

    A condition that fails to evaluate does not just miss an event: daprd then looks at no further rule and sends
    the event to the dead letters, whichever of the app's subscriptions would have wanted it.
    """
    matches = [rule.match for rule in rules_of(subscription) if rule.match]
    if not any(filters.raw_cel(subscription.spec.filters)) and not subscription.spec.routes.rules:
        return []
    majors = {channel.major for channel in channels}
    events = [
        _event(event_type, version.major, data)
        for version in event_type.spec.versions
        if version.major in majors
        for data in _samples(version.schema, version.examples)
    ]
    for match in matches:
        for event in events:
            if failure := cel.failure(match, event):
                return [_may_fail(subscription, failure, event)]
    return []


def _rule(wanted: list[str], path: str | None) -> Rule:
    parts = list(dict.fromkeys(wanted))
    return Rule(filters.conjunction(parts).strip(), path, frozenset(parts))


def _shape(resource: Resource[Any], condition: Filter, at: Path) -> Iterator[Finding]:
    operators = filters.operators(condition)
    if len(operators) != 1:
        message = f"{spell(at)} has {' and '.join(operators) or 'no operator'}: exactly one is needed"
        mend = "Write one of exact, prefix, suffix, all, any, not, cel; a list of filters means all of them."
        yield resource.finding("error", "filter-operators", message, mend, at=at)
    for name, parts in (("all", condition.all), ("any", condition.any)):
        for index, part in enumerate(parts or ()):
            yield from _shape(resource, part, (*at, name, index))
    if condition.not_ is not None:
        yield from _shape(resource, condition.not_, (*at, "not"))


def _refused(resource: Resource[Any], problem: Problem | None, at: Path) -> list[Finding]:
    if problem is None:
        return []
    place = resource.origin.inside(at, problem.line, problem.column)
    message = f"{spell(at)} is no valid CEL: {problem.message}"
    return [resource.finding("error", "malformed-cel", message, problem.mend, at=place)]


def _whole(subscription: EventSubscription) -> list[Finding]:
    at: Path = ("spec", "filters")
    wholes = [rule.match for rule in rules_of(subscription) if rule.match]
    return [found for match in wholes for found in _refused(subscription, cel.check(match), at)]


def _event(event_type: EventType, major: str, data: Any) -> dict[str, Any]:
    """Return the least that the envelope of every event of ours carries."""
    return {
        "specversion": "1.0",
        "id": "0",
        "source": "probe",
        "type": event_type.spec.type,
        "version": major,
        "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json",
        "data": data,
    }


def _samples(schema: Any, examples: Sequence[Any]) -> list[Any]:
    """Return the examples, whole and without what the schema does not require; without any, an empty object."""
    if not examples:
        return [{}]
    return [sample for each in examples for sample in (each, _least(schema or {}, copy.deepcopy(each)))]


def _least(schema: Any, data: Any) -> Any:
    """Return the part of an example that the schema promises, as far as it says so plainly."""
    said = schema if isinstance(schema, dict) else {}
    if isinstance(data, dict):
        properties, required = said.get("properties"), said.get("required")
        known = properties if isinstance(properties, dict) else {}
        names = required if isinstance(required, list) else []
        return {name: _least(known.get(name), value) for name, value in data.items() if name in names}
    if isinstance(data, list):
        return [_least(said.get("items"), each) for each in data]
    return data


def _may_fail(subscription: EventSubscription, failure: str, event: dict[str, Any]) -> Finding:
    strict = subscription.spec.enforcement == "Strict"
    raw = [at for _, at in filters.raw_cel(subscription.spec.filters)]
    at = raw[0] if raw else ("spec", "routes", "rules", 0, "match")
    message = (
        f"A condition fails on {event['type']} v{event['version']} with data {_short(event['data'])}: {failure}. "
        "daprd sends such an event to the dead letters"
    )
    mend = "Guard the field: has(event.data.field) && event.data.field == ..., or use exact, prefix or suffix."
    return subscription.finding("error" if strict else "warning", "cel-may-fail", message, mend, at=at)


def _short(data: Any, limit: int = 80) -> str:
    text = str(data)
    return text if len(text) <= limit else f"{text[:limit]}..."
