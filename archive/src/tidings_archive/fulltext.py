"""Words of an event for the full-text search, which is the same on SQLite (FTS5) and PostgreSQL (tsvector).

The words are split here rather than by the databases, because each of them has rules of its own.
"""

import re
import unicodedata

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from tidings.messages.envelope import UNREADABLE
from tidings_archive.tables import events

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_WORD = re.compile(rf"{_UUID}|[^\W_]+")
LONGEST = 64
"""Characters of a word that count."""
MOST = 2000
"""Different words of one event that can be found."""
_INDEX = sa.table("archive_events_words", sa.column("rowid", sa.BigInteger), sa.column("archive_events_words", sa.Text))


def words(*texts: str) -> list[str]:
    """Return the different words of some texts in lower case: sequences of letters and digits, and whole UUIDs."""
    parts = (word[:LONGEST] for text in texts for word in _WORD.findall(_folded(text)))
    return list(dict.fromkeys(parts))


def words_of(body: str, *attributes: str) -> str:
    """Return the words of an event, separated by spaces. Those of the attributes come first, so that none is cut."""
    return " ".join(words(*attributes, _unescaped(body))[:MOST])


def containing(terms: list[str], dialect: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[int]]:
    """Return the condition that an event has all of these words, and the column of its number to be ordered by."""
    if dialect == "postgresql":
        query = sa.cast(sa.literal(" & ".join(terms), sa.Text), postgresql.TSQUERY)
        return events.c.words.bool_op("@@")(query), events.c.seq
    matches = _INDEX.c.archive_events_words.bool_op("MATCH")(" ".join(f'"{word}"' for word in terms))
    return sa.and_(events.c.seq == _INDEX.c.rowid, matches), _INDEX.c.rowid


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _unescaped(body: str) -> str:
    r"""Return JSON with its characters as they are: some producers write `\u00eb` for `ë`."""
    if "\\u" not in body:
        return body
    try:
        return msgspec.json.encode(msgspec.json.decode(body)).decode()
    except (*UNREADABLE, UnicodeEncodeError):
        return body
