"""What notifications does when it is asked, and how its queue is worked off."""

from __future__ import annotations

from datetime import timedelta

import structlog

from notifications.commands import DeliverEmail
from notifications.domain import Email, deliverable
from notifications.events import EmailRefused, EmailSent, SendEmail
from notifications.mailer import Mailer, NotNow, Refused
from tidings import Handlers, Retry, RetryPolicy, StateContext

log = structlog.get_logger(__name__)

handlers = Handlers()

_LONGEST_PAUSE = 60.0  # seconds between two tries


@handlers.on(SendEmail)
async def send_email(event: SendEmail, context: StateContext) -> None:
    """Take an e-mail on, once for each id. The message that delivers it is stored with it: neither is lost alone."""
    if await context.load(Email, event.email_id) is not None:
        return
    email = Email(
        email_id=event.email_id,
        to=event.to,
        template=event.template,
        order_id=event.order_id,
        asked_at=context.now,
        parameters=event.parameters,
    )
    if deliverable(email.to):
        context.schedule(DeliverEmail(email_id=email.email_id))
    else:
        _refuse(email, "there is no e-mail address to send it to", context)
    context.save(email.email_id, email)


def queue(mailer: Mailer, concurrency: int, patience: timedelta) -> Handlers:
    """The handler that works the queue off, up to `concurrency` e-mails at a time, each for as long as `patience`."""
    found = Handlers()
    # A pause is half the longest at least: no e-mail runs out of tries before it is overdue.
    tries = int(patience.total_seconds() / (_LONGEST_PAUSE / 2)) + 100
    patient = RetryPolicy(duration=1.0, max_interval=_LONGEST_PAUSE, max_retries=tries)

    @found.on(DeliverEmail, concurrency=concurrency, retry=patient)
    async def deliver_email(event: DeliverEmail, context: StateContext) -> Retry | None:
        """Ask the mail server, and tell what it has answered.

        An e-mail whose answer or whose commit got lost is handed over again, and its `Message-ID` says that it is the
        same one.
        """
        email = await context.load(Email, event.email_id)
        if email is None or not email.waiting:
            return None
        try:
            await mailer.send(email)
        except Refused as error:
            _refuse(email, str(error), context)
        except NotNow as error:
            if not email.overdue(context.now, patience):
                log.warning("email.waits", email_id=email.email_id, reason=str(error), attempt=context.attempt)
                return Retry(str(error))
            _refuse(email, f"given up after {patience}: {error}", context)
        else:
            _sent(email, context)
        context.save(email.email_id, email)
        return None

    return found


def _sent(email: Email, context: StateContext) -> None:
    email.sent(context.now)
    context.publish(
        EmailSent(email_id=email.email_id, order_id=email.order_id, template=email.template, sent_at=context.now)
    )


def _refuse(email: Email, reason: str, context: StateContext) -> None:
    log.warning("email.refused", email_id=email.email_id, order_id=email.order_id, reason=reason)
    email.refuse(reason, context.now)
    context.publish(
        EmailRefused(
            email_id=email.email_id,
            order_id=email.order_id,
            template=email.template,
            reason=reason,
            refused_at=context.now,
        )
    )
