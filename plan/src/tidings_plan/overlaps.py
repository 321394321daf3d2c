"""Conflicts between subscriptions of one app on a topic, where daprd delivers only to the first matching rule."""

from collections.abc import Iterator

from tidings.conventions import event_path
from tidings_plan.channels import Channel
from tidings_plan.conditions import Rule, rules_of
from tidings_plan.resources.findings import Finding
from tidings_plan.resources.subscription import Selection


def conflicts(junior: Selection, senior: Selection, shared: list[Channel]) -> Iterator[Finding]:
    """Yield the conflicts of a subscription with an older one. An error rejects the junior subscription."""
    topics = ", ".join(sorted({channel.topic for channel in shared}))
    if junior.spec.consumer.kit != senior.spec.consumer.kit:
        message = f"consumer.kit is {junior.spec.consumer.kit} here and {senior.spec.consumer.kit} in {senior.ref}"
        fix = "Set consumer.kit to the same value in all subscriptions of the app."
        yield junior.finding("error", "conflicting-policies", message, fix)
    if not junior.events.filters and not senior.events.filters:
        message = f"{senior.ref} already reads {topics} for app {junior.spec.consumer.app_id}"
        fix = "Delete one, or add filters to both: within an app, an event goes to one subscription."
        yield junior.finding("error", "duplicate-subscription", message, fix)
        return
    for channel in shared:
        default = event_path(channel.topic)
        both = {rule.path or default for rule in rules_of(junior)} & {rule.path or default for rule in rules_of(senior)}
        if both:
            message = f"{channel.topic} is delivered to {min(both)} for {senior.ref} too"
            fix = "Set a separate path in spec.routes.default: retries and limits apply per path."
            yield junior.finding("error", "same-path", message, fix)
            break
    for rule in rules_of(junior):
        for other in rules_of(senior):
            yield from _rules(junior, rule, senior, other, topics)


def in_order(rules: list[tuple[str, Rule]]) -> list[Rule]:
    """Sort the rules of a topic, each given with its subscription's name, into evaluation order.

    The most specific rules come first, as Dapr recommends, then by subscription, then as declared. Rules that always
    match come last.
    """
    ranked = sorted(enumerate(rules), key=lambda entry: (-len(entry[1][1].terms), entry[1][0], entry[0]))
    return [rule for _, (_, rule) in ranked]


def _rules(junior: Selection, rule: Rule, senior: Selection, other: Rule, topics: str) -> Iterator[Finding]:
    if rule.match == other.match and rule.match:
        message = f"Its filter is the same as that of {senior.ref} on {topics}: it would never receive an event"
        fix = "Delete one, or change the filter: within an app, an event goes to the first match."
        yield junior.finding("error", "shadowed-filter", message, fix, at=("filters",))
    elif rule.terms < other.terms or other.terms < rule.terms:
        wide, narrow = (junior, senior) if rule.terms < other.terms else (senior, junior)
        message = f"On {topics}, events that match {narrow.ref} go only there; {wide.ref} receives the rest"
        yield junior.finding("info", "takes-the-rest", message, at=("filters",))
    elif not _disjoint(rule, other):
        message = f"An event on {topics} may match this and {senior.ref}; it goes to one of them only"
        fix = "Make the filters exclude each other, or subscribe with two apps."
        yield junior.finding("warning", "overlapping-filters", message, fix, at=("filters",))


def _disjoint(rule: Rule, other: Rule) -> bool:
    """Return True if two rules exclude each other, by different values for one field or by a direct negation."""
    own, theirs = _equalities(rule), _equalities(other)
    if any(theirs.get(guarded, value) != value for guarded, value in own.items()):
        return True
    return any(f"!({term})" in second.terms for first, second in ((rule, other), (other, rule)) for term in first.terms)


def _equalities(rule: Rule) -> dict[str, str]:
    pairs = (term.rpartition(" == ") for term in rule.terms if term.startswith("has(") and "||" not in term)
    return {field: value for field, _, value in pairs if field}
