"""Naming rules for event types: facts are `<domain>.<fact>` in the past tense, commands imperative, none technical.

The word lists are in naming_rules.json. The check for the past tense is a heuristic: after the first word, the subject,
it expects a word in -ed or a listed irregular form (`orderConfirmed`, `memberClockedIn`, `driverCameOnDuty`).
Exceptions go into the word lists or, for a single EventType, into the annotation `tidings.dev/naming: accepted`.
"""

import json
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from importlib import resources

from tidings.conventions import ARCHIVE_APP, OWN_DOMAIN
from tidings_plan.resources.eventtype import EventType
from tidings_plan.resources.findings import Finding

ACCEPTED = "tidings.dev/naming"
_SHAPE = re.compile(r"[a-z][a-zA-Z0-9]*\.[a-z][a-zA-Z0-9]*")
WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


@lru_cache(maxsize=1)
def _lists() -> dict[str, frozenset[str]]:
    text = resources.files("tidings_plan").joinpath("naming_rules.json").read_text(encoding="utf-8")
    return {name: frozenset(words) for name, words in json.loads(text).items()}


def check(event_type: EventType) -> Iterator[Finding]:
    """Yield the violated naming rules of a type."""
    name, at = event_type.spec.type, ("spec", "type")
    if not _SHAPE.fullmatch(name):
        message = f"{name} is not of the form <domain>.<fact> in lowerCamelCase"
        fix = "Write it like orders.orderConfirmed; versions go under spec.versions."
        yield event_type.finding("error", "bad-name", message, fix, at=at)
        return
    domain, _, fact = name.partition(".")
    if domain in _lists()["reserved"] and not is_own(name, event_type.spec.producers):
        message = f"The domain {domain} is reserved"
        yield event_type.finding("error", "bad-name", message, "Use the name of the business domain.", at=at)
    if event_type.spec.domain and event_type.spec.domain != domain:
        message = f"spec.domain is {event_type.spec.domain}, but the type starts with {domain}"
        yield event_type.finding("error", "bad-name", message, "Use the same domain in both.", at=("spec", "domain"))
    if event_type.metadata.annotations.get(ACCEPTED) != "accepted":
        words = [word.lower() for word in WORDS.findall(fact)]
        yield from _command(event_type, words) if event_type.spec.intent == "Command" else _fact(event_type, words)


def is_technical(words: list[str]) -> str:
    """Return the reason if the words are technical terms, otherwise an empty string."""
    for kind, considered, reason in (
        ("ui", words, "is a user interface term, not a business term"),
        ("storage", words, "is a storage term, not a business term"),
        ("crud", words[-2:], "describes a change of a record, not a business fact"),
    ):
        if technical := _lists()[kind] & set(considered):
            return f"{min(technical)!r} {reason}"
    return ""


def is_past(words: list[str]) -> bool:
    """Return True if the words contain a verb in the past tense."""
    irregular, exceptions = _lists()["irregularPast"], _lists()["notPast"]
    return any((word.endswith("ed") and word not in exceptions) or word in irregular for word in words[1:] or words)


def _fact(event_type: EventType, words: list[str]) -> Iterator[Finding]:
    name, at = event_type.spec.type, ("spec", "type")
    if reason := is_technical(words):
        fix = "Use the business term: orders.orderConfirmed, staff.memberClockedIn."
        yield event_type.finding("error", "technical-name", f"{name}: {reason}", fix, at=at)
    elif not is_past(words):
        message = f"{name} is not a fact in the past tense"
        fix = f"Use the past tense (orderConfirmed), set intent: Command, or annotate {ACCEPTED}: accepted."
        yield event_type.finding("error", "not-past-tense", message, fix, at=at)


def _command(event_type: EventType, words: list[str]) -> Iterator[Finding]:
    name, at = event_type.spec.type, ("spec", "type")
    first = words[0]
    if is_past(words[:1]) or first in _lists()["questions"]:
        message = f"{name} is a command, but not in the imperative"
        fix = f"Use the imperative (takePayment, sendEmail), or annotate {ACCEPTED}: accepted."
        yield event_type.finding("error", "not-imperative", message, fix, at=at)
    elif set(words) & _lists()["ui"]:
        message = f"{name}: {is_technical(words)}"
        yield event_type.finding("error", "technical-name", message, "Use the business term.", at=at)


def is_own(event_type: str, producers: Collection[str]) -> bool:
    """Return True for a type that Tidings itself publishes: the archive is its only producer."""
    return event_type.startswith(f"{OWN_DOMAIN}.") and set(producers) == {ARCHIVE_APP}
