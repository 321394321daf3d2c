"""Progress of a replay: counters, conditions and completion. Pure: the time is a parameter."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tidings.terminal import printable
from tidings_operator.conditions import Condition
from tidings_plan.resources import EventReplay, durations

ENDED = ("Completed", "Failed", "Cancelled")
OUTCOMES = ("handled", "failed", "unread", "dropped")
"""Outcomes of a replayed event that a consumer confirms."""
COUNTERS = ("matched", "sent", *OUTCOMES, "unconfirmed", "skipped")
MOST_SHOWN = 10
"""Maximum number of skipped events in the status, with reasons; the archive's audit has more."""
LONGEST_REASON = 300

Status = dict[str, Any]

_REMEDIES = {
    "failed": "failed again: see `tidings dlq list`",
    "unread": "unread: no handler of the app reads their version",
    "unconfirmed": "never confirmed: see whether the app runs, and with which SDK",
    "skipped": "skipped: see status.skippedEvents and the archive's audit",
}


def started(before: Status, uid: str, by: str, now: str) -> Status:
    """Return the status of a replay that starts now; a replay that had started before keeps its counters and audit."""
    running = {**before, "phase": "Running"}
    if "startedAt" in before:
        return running
    audit = [{"at": now, "what": "started", "by": by}]
    return {**running, "startedAt": now, "replayId": uid, "sent": 0, "audit": audit}


def counted(before: Status, counts: Mapping[str, int], skipped: list[str], now: str, *, all_sent: bool) -> Status:
    """Return a status with the latest counts, and the time of the last change of any count."""
    after = {**before, **{name: counts[name] for name in COUNTERS}}
    if all_sent:
        after.setdefault("sentAt", now)
    if skipped:
        after["skippedEvents"] = [printable(entry)[:LONGEST_REASON] for entry in skipped[:MOST_SHOWN]]
    changed = any(before.get(name) != after.get(name) for name in (*COUNTERS, "sentAt"))
    return {**after, "progressedAt": now if changed else before.get("progressedAt", now)}


def is_settled(replay: EventReplay, status: Status, now: datetime) -> bool:
    """Return True if everything is sent and confirmed, or the confirmations have timed out."""
    if "sentAt" not in status:
        return False
    if not status["unconfirmed"]:
        return True
    waited = now - datetime.fromisoformat(status["progressedAt"])
    return waited >= timedelta(seconds=durations.seconds(replay.spec.confirmation_timeout))


def ended(status: Status, phase: str, now: str, reason: str = "") -> Status:
    """Return the status of a replay that has ended."""
    audit = [*status.get("audit", []), {"at": now, "what": reason or phase.lower(), "by": "tidings-operator"}]
    return {**status, "phase": phase, "completedAt": now, "audit": audit}


def ready(replay: EventReplay, status: Status) -> Condition:
    """Return the condition Ready: True once the replay has completed; its reason tells whether anything is left."""
    phase, text = status["phase"], _summary(replay, status)
    if phase == "Completed":
        left = not replay.spec.dry_run and any(status.get(name) for name in _REMEDIES)
        return Condition("Ready", "True", "CompletedWithExceptions" if left else "Completed", text)
    if phase == "Failed":
        return Condition("Ready", "False", phase, f"The archive cannot go on: {printable(status['failure'])}. {text}")
    return Condition("Ready", "True" if phase == "Cancelled" else "False", phase, text)


def outcome_conditions(replay: EventReplay, status: Status) -> list[Condition]:
    """Return the conditions Sent and Confirmed: whether all events were sent, and the consumer has handled them."""
    if replay.spec.dry_run or "matched" not in status:
        return []
    is_over, text = status["phase"] in ENDED, _summary(replay, status)
    if "sentAt" not in status:
        reason = status["phase"] if is_over else "Sending"
        return [Condition(name, "False", reason, text) for name in ("Sent", "Confirmed")]
    skipped = status["skipped"]
    sent = Condition("Sent", "False" if skipped else "True", "Skipped" if skipped else "Sent", text)
    if status["unconfirmed"]:
        return [sent, Condition("Confirmed", "False", "TimedOut" if is_over else "Waiting", text)]
    wrong = next((name for name in ("failed", "unread") if status[name]), "")
    reason = wrong.capitalize() or "Handled"
    return [sent, Condition("Confirmed", "False" if wrong else "True", reason, text)]


def _summary(replay: EventReplay, status: Status) -> str:
    """Summarise the outcomes of the events in one line."""
    if replay.spec.dry_run:
        return f"{status.get('matched', 0)} events would be sent"
    sent = f"{status.get('sent', 0)} of {status.get('matched', 0)} events sent to {replay.spec.target.subscription}"
    good = [f"{status[name]} {name}" for name in ("handled", "dropped") if status.get(name)]
    if status["phase"] in ENDED:
        wrong = [f"{status[name]} {text}" for name, text in _REMEDIES.items() if status.get(name)]
    else:
        wrong = [f"{status[name]} {name}" for name in _REMEDIES if status.get(name)]
    return "; ".join([sent, *good, *wrong])


def timestamp(now: datetime) -> str:
    """Format a time for a status."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
