"""The latest notices to owners for `tidings ps`, from the archive of the run."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from textwrap import shorten

import httpx2
import msgspec

from tidings.messages.envelope import UNREADABLE
from tidings.web.answers import AnswerTooLarge
from tidings_cli.archive import read, reason_of, request_headers
from tidings_cli.up.state import ProcessState
from tidings_cli.up.view import age

TIMEOUT = 1.0
"""Seconds that the archive has for its answer."""
MOST, MAX_AGE = 5, timedelta(days=1)
LONGEST = 200
"""Characters of a line: a notice has up to a hundred owners."""


class Notice(msgspec.Struct, rename="camel"):
    """A notice as in `GET /notices`."""

    title: str
    owners: str
    sent_at: datetime


class _Answer(msgspec.Struct):
    notices: list[Notice]


def describe_latest(archive: ProcessState) -> Iterator[str]:
    """Yield lines about the latest notices of the last day, if there are any, or about an archive without an answer."""
    now = datetime.now(UTC)
    try:
        notices = [notice for notice in _read(archive.url) if now - notice.sent_at < MAX_AGE]
    except (httpx2.HTTPError, AnswerTooLarge, *UNREADABLE) as error:
        yield f"notices to owners cannot be read from {archive.url}: {error}"
        return
    if notices:
        yield f"notices to owners, the latest {MOST} of the last day at most; all: {archive.url}/console/notices"
    for notice in notices:
        ago = age((now - notice.sent_at).total_seconds())
        line = f"{ago} ago: {notice.title}" + (f", to {notice.owners}" if notice.owners else "")
        yield f"  {shorten(line, LONGEST, placeholder='…')}"


def _read(url: str) -> list[Notice]:
    answer = read(
        "GET", f"{url}/notices?limit={MOST}", whole=TIMEOUT, headers=request_headers(), timeout=TIMEOUT, trust_env=False
    )
    if not answer.is_success:
        raise httpx2.HTTPError(reason_of(answer))
    return msgspec.json.decode(answer.content, type=_Answer).notices
