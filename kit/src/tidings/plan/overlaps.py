"""Subscriptions of one app on one topic.

An event goes to the first rule that matches, so they must not get in each other's way.
"""

from collections.abc import Iterator

from tidings.plan.channels import Channel
from tidings.plan.conditions import Rule, rules_of
from tidings.plan.conventions import event_path
from tidings.resources.findings import Finding
from tidings.resources.subscription import EventSubscription


def conflicts(junior: EventSubscription, senior: EventSubscription, shared: list[Channel]) -> Iterator[Finding]:
    """Yield what is wrong with the junior's place beside the senior's; an error keeps the junior out."""
    topics = ", ".join(sorted({channel.topic for channel in shared}))
    yield from _kit(junior, senior)
    if _catch_all(junior) and _catch_all(senior):
        message = f"{senior.ref} already reads {topics} for app {junior.spec.consumer.app_id}"
        mend = "Delete one, or give each a filter: within an app an event goes to one subscription."
        yield junior.finding("error", "duplicate-subscription", message, mend, at=("metadata", "name"))
        return
    if found := _same_path(junior, senior, shared):
        yield found
    for rule in rules_of(junior):
        for other in rules_of(senior):
            yield from _rules(junior, rule, senior, other, topics)


def in_order(rules: list[tuple[str, Rule]]) -> list[Rule]:
    """Put the rules of one topic, each with its subscription's name, into the order daprd asks them.

    The most specific first (as Dapr advises), then by subscription, then as written; what matches always is last.
    """
    ranked = sorted(enumerate(rules), key=lambda each: (-len(each[1][1].terms), each[1][0], each[0]))
    return [rule for _, (_, rule) in ranked]


def _catch_all(subscription: EventSubscription) -> bool:
    return not subscription.spec.filters


def _kit(junior: EventSubscription, senior: EventSubscription) -> Iterator[Finding]:
    if junior.spec.consumer.kit != senior.spec.consumer.kit:
        message = f"consumer.kit is {junior.spec.consumer.kit} here and {senior.spec.consumer.kit} in {senior.ref}"
        mend = "An app either uses the kit or it does not: write the same in all its subscriptions."
        yield junior.finding("error", "conflicting-policies", message, mend, at=("spec", "consumer", "kit"))


def _same_path(junior: EventSubscription, senior: EventSubscription, shared: list[Channel]) -> Finding | None:
    for channel in shared:
        default = event_path(channel.topic)
        both = {rule.path or default for rule in rules_of(junior)} & {rule.path or default for rule in rules_of(senior)}
        if both:
            message = f"{channel.topic} is delivered to {min(both)} for {senior.ref} too"
            mend = "Give it a path of its own in spec.routes.default: retries and limits are kept per path."
            return junior.finding("error", "same-path", message, mend, at=("spec", "routes"))
    return None


def _rules(
    junior: EventSubscription, rule: Rule, senior: EventSubscription, other: Rule, topics: str
) -> Iterator[Finding]:
    if rule.match == other.match and rule.match:
        message = f"Its filter is the same as that of {senior.ref} on {topics}: it would never get an event"
        mend = "Delete one, or change the filter: within an app an event goes to the first that matches."
        yield junior.finding("error", "shadowed-filter", message, mend, at=("spec", "filters"))
    elif rule.terms < other.terms or other.terms < rule.terms:
        wide, narrow = (junior, senior) if rule.terms < other.terms else (senior, junior)
        message = f"On {topics}, what {narrow.ref} matches goes there only; {wide.ref} gets the rest"
        yield junior.finding("info", "takes-the-rest", message, at=("spec", "filters"))
    elif not _disjoint(rule, other):
        message = f"An event on {topics} may match this and {senior.ref}; it goes to one of them only"
        mend = "Make the filters exclude each other, or subscribe with two apps."
        yield junior.finding("warning", "overlapping-filters", message, mend, at=("spec", "filters"))


def _disjoint(rule: Rule, other: Rule) -> bool:
    """Whether some field would need two values at once: `x == 1` here, `x == 2` there, or a plain negation."""
    mine, theirs = _equalities(rule), _equalities(other)
    if any(theirs.get(guarded, value) != value for guarded, value in mine.items()):
        return True
    return any(f"!({term})" in theirs_terms for term, theirs_terms in _crossed(rule, other))


def _crossed(rule: Rule, other: Rule) -> Iterator[tuple[str, frozenset[str]]]:
    yield from ((term, other.terms) for term in rule.terms)
    yield from ((term, rule.terms) for term in other.terms)


def _equalities(rule: Rule) -> dict[str, str]:
    pairs = (term.rpartition(" == ") for term in rule.terms if term.startswith("has(") and "||" not in term)
    return {field: value for field, _, value in pairs if field}
