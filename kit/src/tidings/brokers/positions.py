"""Positions of topics at the broker, which show when the broker has lost events."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tidings.conventions import DEAD_LETTER_PREFIX

Reader = tuple[str, str]
"""App and topic."""
Key = tuple[str, int]
"""Topic and partition; brokers other than Kafka have one partition, 0."""


@dataclass(frozen=True, slots=True)
class Position:
    """Numbers of a topic's events, which a broker assigns in ascending order.

    Attributes:
        first: Of the oldest event that the broker holds.
        end: Of the next event that will be published.
        next: Of the first event that is not acknowledged, for each app that reads the topic.
        identity: Differs after the topic was created again; empty if the broker has no such thing.

    """

    first: int
    end: int
    next: tuple[int, ...] = ()
    identity: str = ""

    def is_recreated(self, now: Position) -> bool:
        """Return True if the topic was created again before `now` was observed, or has lost its latest events."""
        return now.identity != self.identity or now.end < self.end

    def has_gap(self, now: Position) -> bool:
        """Return True if events are gone that an app had not acknowledged when this position was observed."""
        return now.first > max(self.first, min(self.next, default=now.first))

    @property
    def is_outside(self) -> bool:
        """True if the next event of an app is gone, or was never published."""
        return any(not self.first <= number <= self.end for number in self.next)


def next_numbers(topic: str, readers: Iterable[Reader], known: Mapping[str, int], first: int) -> tuple[int, ...]:
    """Return the number of each reader's next event: the oldest one where the broker does not know the app yet.

    Dead letters that no app reads count as not acknowledged.
    """
    numbers = tuple(known.get(app, first) for app, of in sorted(set(readers)) if of == topic)
    return numbers or ((first,) if topic.startswith(DEAD_LETTER_PREFIX) else ())


def compare(before: Mapping[Key, Position], now: Mapping[Key, Position]) -> tuple[Collection[str], Collection[str]]:
    """Return the topics that were created again, and those of which events are gone that were not acknowledged."""
    both = [(key[0], before[key], position) for key, position in now.items() if key in before]
    recreated = {topic for topic, old, new in both if old.is_recreated(new)}
    gaps = {topic for topic, old, new in both if old.has_gap(new)}
    outside = {key[0] for key, position in now.items() if key not in before and position.is_outside}
    return recreated, (gaps | outside) - recreated
