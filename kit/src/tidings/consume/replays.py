"""Reports the outcomes of replayed events to the archive, since only the consumer knows them."""

import uuid
from dataclasses import dataclass
from typing import Literal

import msgspec
import structlog

from tidings.consume.deadletters import clean
from tidings.conventions import RECORD_REPLAY_OUTCOME
from tidings.dapr import Sidecar
from tidings.errors import SidecarError, SidecarUnavailable
from tidings.messages import events
from tidings.messages.envelope import Envelope, timestamp
from tidings.messages.events import Event, command, message_type
from tidings.outcomes import DeadLetter, Done, Drop, Outcome, Postponed

log = structlog.get_logger(__name__)

ReplayOutcome = Literal["handled", "failed", "unread", "dropped"]
_NAMESPACE = uuid.UUID("5d2b7f0a-3f5b-5c53-8d0e-6a3c4e0f7a11")  # of the reports' ids


@command(RECORD_REPLAY_OUTCOME, version=1, subject="replay_id")
class RecordReplayOutcome(Event):
    """A subscription has finished handling one event of a replay.

    `handled` includes events that had been handled before. `failed`: the event became a dead letter again. `dropped`:
    the handler ignored it. `unread`: no handler of the app reads its type.
    """

    replay_id: str
    event_id: str
    source: str
    subscription: str
    outcome: ReplayOutcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReplayReports:
    """Publishes the outcomes of replayed events on behalf of a service."""

    app: str
    sidecar: Sidecar

    async def publish(self, envelope: Envelope, subscription: str, outcome: Outcome, *, unread: bool) -> Outcome:
        """Publish the outcome of a replayed event, with an id that is the same for a repeated report.

        Return `Postponed` if that is not possible now, so that the event is redelivered. If the broker rejects the
        report, the replay stays unconfirmed, which the archive shows.
        """
        name: ReplayOutcome = "handled"
        if isinstance(outcome, DeadLetter):
            name = "failed"
        elif isinstance(outcome, Drop):
            name = "unread" if unread else "dropped"
        reason = clean(getattr(outcome, "reason", ""))
        report = RecordReplayOutcome(
            replay_id=envelope.replayid,
            event_id=envelope.id,
            source=envelope.source,
            subscription=subscription,
            outcome=name,
            reason=reason,
        )
        topic = message_type(RecordReplayOutcome).topic
        try:
            await self.sidecar.publish(topic, _encode(self.app, envelope, report))
        except SidecarUnavailable as error:
            return Postponed(clean(error))
        except SidecarError as error:
            log.error(
                "replay.report_rejected", replay_id=report.replay_id, event_id=report.event_id, reason=clean(error)
            )
        return Done()


def _encode(app: str, envelope: Envelope, report: RecordReplayOutcome) -> bytes:
    kind = message_type(RecordReplayOutcome)
    identity = f"{report.replay_id} {envelope.identity} {report.subscription} {report.outcome}"
    return Envelope(
        id=str(uuid.uuid5(_NAMESPACE, identity)),
        source=app,
        type=kind.name,
        specversion="1.0",
        version=str(kind.version),
        subject=report.replay_id,
        time=timestamp(),
        datacontenttype="application/json",
        correlationid=envelope.correlationid,
        causationid=envelope.id,
        traceparent=envelope.traceparent,
        tracestate=envelope.tracestate,
        baggage=envelope.baggage,
        data=msgspec.Raw(events.encode(report)),
    ).encode()
