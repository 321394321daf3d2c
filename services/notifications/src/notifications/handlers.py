"""Handlers of notifications for its command and for its queue in front of the mail server."""

from datetime import timedelta

import structlog

from notifications.commands import DeliverEmail
from notifications.domain import Email, Mailer, NotNow, Refused, deliverable
from notifications.events import EmailRefused, EmailSent, SendEmail
from tidings import Handlers, Retry, RetryPolicy, StateContext

log = structlog.get_logger(__name__)

handlers = Handlers()

_MAX_PAUSE = 60.0  # seconds between two attempts


@handlers.on(SendEmail)
async def send_email(event: SendEmail, context: StateContext) -> None:
    """Store the e-mail and, in the same commit, schedule its delivery; once per id."""
    if await context.load(Email, event.email_id) is not None:
        return
    email = Email(
        email_id=event.email_id,
        customer_id=event.customer_id,
        to=event.to,
        template=event.template,
        order_id=event.order_id,
        asked_at=context.now,
        parameters=event.parameters,
    )
    if deliverable(email.to):
        context.schedule(DeliverEmail(email_id=email.email_id))
    else:
        _refuse(email, "the customer has no valid e-mail address", context)
    context.save(email.email_id, email)


def queue(mailer: Mailer, concurrency: int, patience: timedelta) -> Handlers:
    """Return the handler of the queue.

    Args:
        mailer: Connection to the mail server.
        concurrency: Maximum number of e-mails handed over at the same time.
        patience: Time after which an e-mail is given up.

    """
    queue_handlers = Handlers()
    # Jitter shortens a pause by half at most, so no e-mail runs out of retries before it is overdue.
    retries = int(patience.total_seconds() / (_MAX_PAUSE / 2)) + 100
    retry_policy = RetryPolicy(duration=1.0, max_interval=_MAX_PAUSE, max_retries=retries)

    @queue_handlers.on(DeliverEmail, concurrency=concurrency, retry=retry_policy)
    async def deliver_email(event: DeliverEmail, context: StateContext) -> Retry | None:
        """Hand the e-mail to the mail server, and publish the outcome."""
        # If the server's response or the commit is lost, the e-mail is sent again, with the same Message-ID.
        email = await context.load(Email, event.email_id)
        if email is None or not email.waiting:
            return None
        try:
            await mailer.send(email)
        except Refused as error:
            _refuse(email, str(error), context)
        except NotNow as error:
            if not email.overdue(context.now, patience):
                log.warning("email.delayed", email_id=email.email_id, reason=str(error), attempt=context.attempt)
                return Retry(str(error))
            _refuse(email, f"given up after {patience}: {error}", context)
        else:
            _record_sent(email, context)
        context.save(email.email_id, email)
        return None

    return queue_handlers


def _record_sent(email: Email, context: StateContext) -> None:
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
            customer_id=email.customer_id,
            reason=reason,
            refused_at=context.now,
        )
    )
