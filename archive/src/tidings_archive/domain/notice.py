"""Notices to owners: what makes two of them the same, and what they say. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import singledispatch

from tidings_archive.events import (
    DeadLettersAccumulated,
    IncompatibleChangeProposed,
    Notice,
    RemovalApproached,
    SubscriptionFailed,
    VersionDeprecated,
)

EVERY_KIND = "*"


@dataclass(frozen=True, slots=True)
class Message:
    """A notice in words."""

    title: str
    text: str
    owners: str


@singledispatch
def matter(notice: Notice) -> tuple[str, ...]:
    """Return what must be equal in two notices about the same unchanged matter."""
    raise TypeError(f"{type(notice).__name__} is not a notice")


@matter.register
def _(notice: VersionDeprecated) -> tuple[str, ...]:
    return notice.namespace, notice.event_type, notice.version, str(notice.removal), notice.alternative


@matter.register
def _(notice: RemovalApproached) -> tuple[str, ...]:
    return notice.namespace, notice.event_type, notice.version, str(notice.removal)


@matter.register
def _(notice: IncompatibleChangeProposed) -> tuple[str, ...]:
    return notice.namespace, notice.event_type, *notice.problems


@matter.register
def _(notice: SubscriptionFailed) -> tuple[str, ...]:
    return notice.namespace, notice.subscription, notice.reason


@matter.register
def _(notice: DeadLettersAccumulated) -> tuple[str, ...]:
    # It has changed when the number has doubled: each single dead letter would be too often.
    return notice.namespace, notice.app, str((notice.count // notice.threshold).bit_length())


@singledispatch
def _words(notice: Notice) -> tuple[str, str]:
    raise TypeError(f"{type(notice).__name__} is not a notice")


@_words.register
def _(notice: VersionDeprecated) -> tuple[str, str]:
    remedy = f" Use {notice.alternative} instead." if notice.alternative else ""
    return (
        f"{notice.event_type} {notice.version} is deprecated",
        f"It will be removed on {notice.removal}.{remedy}",
    )


@_words.register
def _(notice: RemovalApproached) -> tuple[str, str]:
    remedy = f" Use {notice.alternative} instead." if notice.alternative else ""
    when = f"in {notice.days_left} days, on" if notice.days_left > 0 else "today or overdue: the date is"
    return (
        f"{notice.event_type} {notice.version} will soon be removed",
        f"It is removed {when} {notice.removal}, and is still in use.{remedy}",
    )


@_words.register
def _(notice: IncompatibleChangeProposed) -> tuple[str, str]:
    by = f" by {notice.proposed_by}" if notice.proposed_by else ""
    outcome = "It was refused." if notice.refused else "It is in the cluster and breaks its consumers."
    return (
        f"An incompatible change of {notice.event_type} was proposed{by}",
        "\n".join((outcome, *notice.problems)),
    )


@_words.register
def _(notice: SubscriptionFailed) -> tuple[str, str]:
    return (
        f"The subscription {notice.subscription} is not ready: {notice.reason}",
        f"Since {notice.since:%Y-%m-%d %H:%M} UTC: {notice.message}",
    )


@_words.register
def _(notice: DeadLettersAccumulated) -> tuple[str, str]:
    return (
        f"{notice.app} has {notice.count} dead letters",
        f"The limit is {notice.threshold}. Fix the cause, then replay or discard them.",
    )


def describe(notice: Notice) -> Message:
    """Return a notice in words."""
    title, text = _words(notice)
    owners = ", ".join(f"{owner.name} ({owner.contact})" if owner.contact else owner.name for owner in notice.owners)
    return Message(f"{title} [{notice.namespace}]" if notice.namespace else title, text, owners)


def is_silent(kind: str, last: datetime, now: datetime, hours: Mapping[str, float]) -> bool:
    """Return True if a matter was notified too recently to be notified again."""
    return now - last < timedelta(hours=hours.get(kind, hours.get(EVERY_KIND, 0.0)))
