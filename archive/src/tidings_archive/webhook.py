"""Send notices to a webhook that understands Slack's messages (Slack, Mattermost, Rocket.Chat, Discord's `/slack`).

The address comes from the archive's own environment, never from a resource or request, so that no tenant can make the
archive call anything. It is a secret: no log line or API response has it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import sqlalchemy as sa
import structlog

from tidings.outbox.sql import Database
from tidings.terminal import printable
from tidings_archive.domain.notice import Message
from tidings_archive.settings import ArchiveSettings
from tidings_archive.tables import notices

log = structlog.get_logger(__name__)
TIMEOUT = 10.0
"""Seconds that a request may take."""
ATTEMPTS = 5
FIRST_DELAY = 30.0
"""Seconds until the second attempt; each further delay is four times as long."""
PAUSE, IDLE = 1.0, 5.0
"""Seconds between messages (Slack allows one a second), and between looks for new ones."""
LONGEST_TITLE, LONGEST_TEXT = 150, 2900
"""Slack's limits in characters are 150 and 3,000."""
_MENTION = re.compile(r"@(?=(?:channel|here|everyone|all)\b)", re.IGNORECASE)

Sender = Callable[[Message], Awaitable[None]]


class WebhookError(Exception):
    """The webhook did not accept a message. The text has neither the address nor anything of the response's body."""


def payload(message: Message) -> dict[str, Any]:
    """Return a message for Slack.

    Its texts come from tenants. They cannot mention or ping anybody, link, or format: `&`, `<` and `>` are escaped as
    Slack requires, blocks are plain text, and names of groups are separated from their `@`.
    """
    title, text = safe(message.title, LONGEST_TITLE), safe(message.text, LONGEST_TEXT)
    parts = [text, f"Owners: {safe(message.owners, LONGEST_TITLE * 4)}"] if message.owners else [text]
    return {
        "text": title,
        "mrkdwn": False,
        "blocks": [
            {"type": "header", "text": _plain(title)},
            *({"type": "section", "text": _plain(part)} for part in parts),
        ],
    }


def safe(text: str, most: int) -> str:
    """Return text that is shown as it is, and has at most `most` characters."""
    # The replacements are counted: an entity must not be cut in two.
    shown = _MENTION.sub("@\u200b", printable(text, keep="\n"))
    length = 0
    escaped: list[str] = []
    for character in shown:
        entity = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(character, character)
        length += len(entity)
        if length >= most:
            return "".join(escaped) + "…"
        escaped.append(entity)
    return "".join(escaped)


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def sender(client: httpx2.AsyncClient, url: str) -> Sender:
    """Return a function that posts a message; it raises WebhookError."""

    async def send(message: Message) -> None:
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                client.stream("POST", url, json=payload(message), follow_redirects=False) as response,
            ):
                status = response.status_code  # the body is not read: it has no limit, and nobody needs it
        except TimeoutError as error:
            raise WebhookError(f"no response within {TIMEOUT:g} s") from error
        except httpx2.HTTPError as error:
            raise WebhookError(type(error).__name__) from None  # its text may have the address
        if not 200 <= status < 300:  # noqa: PLR2004 - success
            hint = " (redirects are not followed)" if 300 <= status < 400 else ""  # noqa: PLR2004
            raise WebhookError(f"status {status}{hint}")

    return send


async def run(database: Database, chosen: ArchiveSettings) -> None:
    """Send what is due, one message after the other, until cancelled."""
    if not chosen.notice_webhook:
        return
    async with httpx2.AsyncClient(timeout=TIMEOUT) as client:
        send = sender(client, chosen.notice_webhook.get_secret_value())
        while True:
            is_sent = await send_next(database, send, datetime.now(UTC))
            await asyncio.sleep(PAUSE if is_sent else IDLE)


async def send_next(database: Database, send: Sender, now: datetime) -> bool:
    """Send the message that has been due for longest, if any; return whether there was one.

    It is claimed before, with the time of the next attempt: a crash in between repeats it, and no second replica sends
    it meanwhile. No transaction is open during the request.
    """
    claimed = await _claim(database, now.timestamp())
    if claimed is None:
        return False
    try:
        await send(Message(claimed.title, claimed.text, claimed.owners))
    except WebhookError as error:
        is_last = claimed.attempts + 1 >= ATTEMPTS
        log.warning("notice.webhook_failed", reason=str(error), attempt=claimed.attempts + 1, gives_up=is_last)
        await _record(database, claimed, {"error": str(error), **({"due": None} if is_last else {})})
        return True
    await _record(database, claimed, {"due": None, "error": ""})
    return True


async def _claim(database: Database, now: float) -> sa.Row[Any] | None:
    async with database.transaction() as connection:
        due = sa.select(notices).where(notices.c.due <= now).order_by(notices.c.due).limit(1)
        notice = (await connection.execute(due.with_for_update(skip_locked=True))).one_or_none()
        if notice is not None:
            later = now + FIRST_DELAY * 4.0**notice.attempts
            this = sa.update(notices).where(notices.c.seq == notice.seq)
            await connection.execute(this.values(due=later, attempts=notice.attempts + 1))
        return notice


async def _record(database: Database, claimed: sa.Row[Any], result: dict[str, Any]) -> None:
    """Record an attempt, unless the matter has been notified again meanwhile."""
    same = sa.and_(notices.c.seq == claimed.seq, notices.c.sent == claimed.sent)
    async with database.transaction() as connection:
        await connection.execute(sa.update(notices).where(same).values(**result))
