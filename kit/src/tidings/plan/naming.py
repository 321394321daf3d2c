"""Names of business events: `<domain>.<fact>` in the past tense, commands imperative, nothing technical.

The words are data (words.json). The tense is a heuristic: behind the first word, which names who or what, stands a
verb form in -ed or a known irregular one (`orderConfirmed`, `memberClockedIn`, `driverCameOnDuty`). What it gets wrong
belongs into the word list, or into the annotation `tidings.dev/naming: accepted` of the one EventType.
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources

from tidings.resources.eventtype import EventType
from tidings.resources.findings import Finding

ACCEPTED = "tidings.dev/naming"
_SHAPE = re.compile(r"[a-z][a-zA-Z0-9]*\.[a-z][a-zA-Z0-9]*")
WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


@lru_cache(maxsize=1)
def _lists() -> dict[str, frozenset[str]]:
    text = resources.files("tidings.plan").joinpath("words.json").read_text(encoding="utf-8")
    return {name: frozenset(words) for name, words in json.loads(text).items()}


def check(event_type: EventType) -> Iterator[Finding]:
    """Yield what is wrong with the name of a type."""
    name, at = event_type.spec.type, ("spec", "type")
    if not _SHAPE.fullmatch(name):
        message = f"{name} is no name of the form <domain>.<fact> in lowerCamel"
        mend = "Write orders.orderConfirmed; the version stands under spec.versions."
        yield event_type.finding("error", "bad-name", message, mend, at=at)
        return
    domain, _, fact = name.partition(".")
    if domain in _lists()["reserved"]:
        message = f"The domain {domain} is reserved"
        yield event_type.finding("error", "bad-name", message, "Name it after the business domain.", at=at)
    if event_type.spec.domain and event_type.spec.domain != domain:
        message = f"spec.domain is {event_type.spec.domain}, but the type begins with {domain}"
        yield event_type.finding("error", "bad-name", message, "Write the same twice.", at=("spec", "domain"))
    if event_type.metadata.annotations.get(ACCEPTED) != "accepted":
        words = [word.lower() for word in WORDS.findall(fact)]
        yield from _command(event_type, words) if event_type.spec.intent == "Command" else _fact(event_type, words)


def is_technical(words: list[str]) -> str:
    """Return why the words name something technical, or an empty string."""
    lists = _lists()
    if set(words) & lists["ui"]:
        return f"{min(set(words) & lists['ui'])!r} is what a screen does, not the business"
    if set(words) & lists["storage"]:
        return f"{min(set(words) & lists['storage'])!r} is storage, not business"
    if set(words[-2:]) & lists["crud"]:
        return f"{min(set(words[-2:]) & lists['crud'])!r} says what happened to a record, not to the business"
    return ""


def is_past(words: list[str]) -> bool:
    """Whether the words tell of something that has happened."""
    irregular, exceptions = _lists()["irregularPast"], _lists()["notPast"]
    return any((word.endswith("ed") and word not in exceptions) or word in irregular for word in words[1:] or words)


def _fact(event_type: EventType, words: list[str]) -> Iterator[Finding]:
    name, at = event_type.spec.type, ("spec", "type")
    if reason := is_technical(words):
        mend = "Say what the business would call it: orders.orderConfirmed, staff.memberClockedIn."
        yield event_type.finding("error", "technical-name", f"{name}: {reason}", mend, at=at)
    elif not is_past(words):
        message = f"{name} does not read as a fact in the past tense"
        mend = f"Write what has happened (orderConfirmed); or intent: Command; or annotate {ACCEPTED}: accepted."
        yield event_type.finding("error", "not-past-tense", message, mend, at=at)


def _command(event_type: EventType, words: list[str]) -> Iterator[Finding]:
    name, at = event_type.spec.type, ("spec", "type")
    first = words[0]
    if is_past(words[:1]) or first in _lists()["questions"]:
        message = f"{name} is a command, but does not tell anyone to do something"
        mend = f"Write an imperative (takePayment, sendEmail); or annotate {ACCEPTED}: accepted."
        yield event_type.finding("error", "not-imperative", message, mend, at=at)
    elif set(words) & _lists()["ui"]:
        message = f"{name}: {is_technical(words)}"
        yield event_type.finding("error", "technical-name", message, "Ask for what the business wants.", at=at)
